"""`loadcheck`: an open-loop load generator that compares a candidate with a baseline.

Open loop: requests leave at fixed times whatever the answers do, and latency counts from the intended time, so
a server that stalls is charged for everyone who would have waited. Candidate and baseline take turns in the
order A B B A, which cancels a drift of the machine that is linear in time. The generator watches itself: when
it is late, it says so instead of blaming the model.
"""
