"""KoRE Serve and general model servers doing the same work: python -m benchmarks.peers

work.py is the work. *_server.py and plain.py do it as each tool's documentation describes. environments.py
installs the tools, servers.py runs them, comparison.py measures them, report.py judges and plot.py draws.
"""
