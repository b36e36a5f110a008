"""The daemon's API: HTTP and JSON on a Unix socket, for everybody on the host.

server, connection, limits   accept, and HTTP as aiohttp has it; how much each client may have
routes, queries              the table of requests; what stands behind their ?
routes_jobs, routes_daemon   their handlers: decode, ask the engine, encode
call                         one request on its way, and what all handlers share
answers, refusals            messages and errors, as they are told
output, reading, spool       a job's output: the answer, where in it a reader is, its files
followers, sending           who waits for more of it; bytes past aiohttp, at the reader's speed
attach, upload               a job on its caller's own streams; one that brings its stdin
metrics                      numbers for Prometheus
openapi                      makes openapi.json of the table and the messages
seam                         what the engine is to the API
"""
