"""A relay joins two ends, whatever they are: RPT, TCP, UDP, Unix sockets, TLS, a process, stdio.

::

    FROM -- opener --> Channel --.        .-- Channel <-- opener -- TO
                                  `-join-'        several: the least busy that is well

`ends` reads what people write, `openers` turns it into channels, one for each connection of
a listener, `channels` and its kin know how each kind carries and ends, `join` carries both
ways, `relay` runs all of it. socat(1) is what its users know.
"""
