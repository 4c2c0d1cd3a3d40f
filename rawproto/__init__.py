"""rawproto: packets built by hand, paths measured exactly, a transport on bare IP."""

__version__ = "0.1.0"
