"""The model server beside its peers, on one core each.

What is measured is decided in `cells` (which requests) and `subjects` (which servers, started how). `process`
starts a server and reads its costs from /proc, `generators` sends the load, `answers` refuses to time a server that
answers wrongly, `rounds` interleaves it all and returns plain JSON. From there on nothing is measured: `figures` has
the medians, ratios and goals as pure functions of that JSON, `report` the table. So a figure in the table can always
be traced to the rounds it comes from, and a goal cannot be judged by other numbers than those printed.
"""
