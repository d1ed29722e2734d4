"""The checker image: everything that touches rows, models and the artifact store on behalf of a run.

Four steps, one process each: `prepare` brings and checks the data, `finalise` checks and uploads the model,
`fetch` brings a model to a server, `loadcheck` measures one under load. A step is given one plan (JSON in
`STEELTOWN_PLAN`) and ends with one report in its termination message; it measures and never decides, except
that data or a model which cannot be used at all ends the run here, with a reason.
"""
