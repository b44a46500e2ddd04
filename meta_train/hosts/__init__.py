"""One run in several processes, on one host or many: they meet, watch each other, and agree.

`place.py` says which of them this process is, `detect.py` how a launcher tells; `meeting.py` is
where they find each other, over `wire.py`; `peers.py` is the company they keep until the end;
`together.py` puts JAX's own runtime on top. None but the last imports JAX.
"""
