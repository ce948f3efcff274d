"""The warm server: has imported what a sandbox takes, and forks for each run that asks it to.

    client.py     in `sb run`: finds the agent, says who calls, passes signals on, ends as the run did
    place.py      where the agent of this caller listens, if there is one
    server.py     the agent: listens, forks, ends when nobody came for a while; launching.py starts it
    standby.py    the worker that it forks before there is a caller
    worker.py     what it forks: makes sure who calls, becomes like them, and is `sb run` from there on
    callers.py    what can be known of a process, and why one may not have what another has; adoption.py  becoming alike

    sb run (client)                          worker, forked by the agent before the connection
        |<------- challenge: worker's pid, descriptor n -------|  (n is a memfd with a secret name)
        | reads the link /proc/WORKER/fd/n                     |
        |-------- call: the secret + Call in a memfd, 0 1 2 … >|  (the kernel adds the sender's pid: SCM_CREDENTIALS)
        |                                                      | compares, adopts, reads the command line
        |<------- cold ----------------------------------------|  (whatever the reason: `sb run` does it by itself)
        |<------- warm ----------------------------------------|  is the supervisor of a sandbox now
        | ------- (signals, by pidfd_send_signal) ------------>|
        |<------- ended + exit status -------------------------|
    If the client dies, the kernel kills the worker, as `sb run` would have died (a pipe's end: processes.die_with).
"""
