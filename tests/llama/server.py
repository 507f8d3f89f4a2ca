"""llama.cpp's own server, out of the xllamacpp package: on a free port, which it prints, until its
standard input ends. So it never outlives who started it.

    server.py MODEL SLOTS CONTEXT, which the slots share
"""

import sys

import xllamacpp

params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.n_ctx = int(sys.argv[3])
params.n_parallel = int(sys.argv[2])
params.hostnames = ["127.0.0.1"]
params.port = 0
params.endpoint_slots = True
# Threads that wait for one another are slow where cores are shared, and one is plenty for this model.
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
params.n_threads_http = 64

server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
