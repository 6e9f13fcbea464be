"""KoRE Serve beside general model servers doing the same work: python -m benchmarks.peers

work.py is the work, *_server.py and plain.py do it the way each tool's documentation would, environments.py
and servers.py install and run them, load.py asks them, report.py judges and plot.py draws.
"""
