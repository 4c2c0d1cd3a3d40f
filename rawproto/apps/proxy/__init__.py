"""A proxy over RPT: programs reach through an entry on their host what an exit may reach.

::

    SOCKS5, HTTP -.                                        .- allow -- TCP, Unix, UDP
    -L, -D -------+-- entry ==== one RPT connection ==== exit
    -R targets ---'       calls `open`, `listen`, `associate`; DATAGRAM   '- -R's listeners

`allow` decides what may be reached, `service` is the exit's half (methods for an `RPCPeer`),
`forwards` the other: what listens here and opens there. `socks` and `http` know what
programs speak, `exits` keeps connections to several exits. docs/proxy.md has the bytes, and
says how another program mounts both halves on a connection of its own.
"""
