"""HTTP/1.1 over RPT: a directory or any ASGI application, served, and URLs, fetched.

::

    service   an ASGI application, run by uvicorn's protocol classes on RPT's transports
    bounds    to what one connection makes those classes hold
    site      a directory as such an application: files, ranges, conditions, pages of names
    listing   the page of a directory
    fetch     requests by httpcore: redirects, ranges, uploads, what went wrong in curl's terms

A connection of RPT is to HTTP what one of TCP is: its stream 0 carries request after request.
HTTP itself is read and written by h11 or httptools, never here. Needs the extra
`rawproto[http]`. A browser gets in by a relay (`rawproto http gateway`), which knows no HTTP.
"""
