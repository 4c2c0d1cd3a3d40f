"""Serve a directory or an application by HTTP over RPT; fetch from it; let browsers in.

examples:
  rawproto http serve /srv/www --listen rpt://0.0.0.0:4000
  rawproto http serve shop:app --listen rpt+udp://[::]:4000 --workers 4 --authorized keys
  rawproto http get -O rpt://10.0.0.2:4000/big.iso -C -          go on where it broke off
  rawproto http get -d name=ada rpt://10.0.0.2:4000/form
  rawproto http gateway --listen 127.0.0.1:8080 rpt://10.0.0.2:4000
  curl http://127.0.0.1:8080/                                    and any browser likewise

`get` takes curl's options by their letters, as far as it has them.

exit status: serve, gateway: 0 ended by SIGTERM, 2 usage or local error, 130 Ctrl-C; get: 0,
else curl's numbers: 3 not a URL, 6 no such host, 7 nobody listens, 18 cut short, 22 an error
with -f, 23 cannot write, 28 took too long, 33 cannot resume, 35 not admitted, 47 too many
redirects, 52 no answer, 56 lost, 60 the peer is not trusted; 2 usage
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
from typing import Any

from rawproto.apps.relay.ends import End, parse_end
from rawproto.cli.relaying import add_relaying_options, check_relaying, run_relay
from rawproto.cli.rpt_options import add_client_options, add_server_options
from rawproto.cli.serving import add_listen_option, add_serving_options
from rawproto.drivers.rpt.address import parse_address
from rawproto.errors import UsageError

__all__ = ["Whole", "add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `http`."""
    verbs = parser.add_subparsers(
        dest="what", required=True, metavar="WHAT", parser_class=_mixing(type(parser))
    )
    server = verbs.add_parser("serve", help="a directory, or an ASGI application")
    server.add_argument("site", metavar="DIR|MODULE:APP")
    add_listen_option(server)
    server.add_argument(
        "--http",
        dest="parser",
        choices=("auto", "h11", "httptools"),
        default="auto",
        help="what reads HTTP; auto is httptools where it is installed, else h11",
    )
    server.add_argument(
        "--keep-alive",
        type=int,
        default=5,
        metavar="SECONDS",
        help="silence between requests that ends a connection (default: %(default)s)",
    )
    add_serving_options(server)
    add_server_options(server)

    getter = verbs.add_parser("get", help="fetch URLs, or send to them, as curl does")
    _add_get_options(getter)

    gateway = verbs.add_parser("gateway", help="let browsers and other programs of this host in")
    gateway.add_argument("addresses", metavar="ADDRESS[,ADDRESS...]", help="rpt://HOST:PORT")
    gateway.add_argument(
        "--listen", default="127.0.0.1:8080", metavar="[HOST:]PORT", help="(default: %(default)s)"
    )
    add_relaying_options(gateway)
    gateway.set_defaults(
        linger=0.5, idle=60.0, tls_ca=None, tls_cert=None, tls_key=None, tls_insecure=False,
        authorized=None,
    )  # fmt: skip


def _mixing(kind: type[argparse.ArgumentParser]) -> type[argparse.ArgumentParser]:
    """Parsers whose options may stand between words, as curl's: `-o a URL -o b URL`."""

    class Mixing(kind):  # type: ignore[valid-type, misc]
        within = False

        def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
            if self.within:
                return super().parse_known_args(args, namespace)
            self.within = True
            try:
                return self.parse_known_intermixed_args(args, namespace)
            finally:
                self.within = False

    return Mixing


def _add_get_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("urls", nargs="+", metavar="URL", help="rpt:// or rpt+udp://HOST:PORT/PATH")
    output = parser.add_argument_group("what comes")
    output.add_argument(
        "-o", "--output", dest="outputs", action="append", metavar="FILE",
        help="write it there, - for stdout; one for each URL",
    )  # fmt: skip
    output.add_argument(
        "-O", "--remote-name", dest="outputs", action="append_const", const=None,
        help="write it to a file of the URL's last name",
    )  # fmt: skip
    output.add_argument("-i", "--include", action="store_true", help="show its headers as well")
    output.add_argument("-I", "--head", action="store_true", help="ask for its headers alone")
    output.add_argument(
        "-f", "--fail", action="store_true", help="exit with 22 where the status is 400 or above"
    )
    output.add_argument("-r", "--range", metavar="FIRST-LAST", help="a part of it only")
    output.add_argument(
        "-C", "--continue-at", dest="resume", metavar="OFFSET",
        help="go on from there; - for the size of the file that there is",
    )  # fmt: skip
    request = parser.add_argument_group("what is asked")
    request.add_argument("-X", "--request", dest="method", metavar="METHOD")
    request.add_argument(
        "-H", "--header", dest="headers", action="append", default=[], metavar="NAME: VALUE",
        help="send it; NAME: leaves one out, NAME; sends it empty",
    )  # fmt: skip
    request.add_argument(
        "-u", "--user", dest="login", metavar="NAME[:PASSWORD]",
        help="say who you are, by HTTP Basic; a password that is not given is asked for",
    )  # fmt: skip
    request.add_argument(
        "-d", "--data", dest="data", action="append", metavar="DATA|@FILE",
        help="POST it, several with & between; files without their line ends",
    )  # fmt: skip
    request.add_argument(
        "--data-binary", dest="data", action="append", type=Whole, metavar="DATA|@FILE",
        help="the same, files as they are",
    )  # fmt: skip
    request.add_argument(
        "-T", "--upload-file", dest="upload", metavar="FILE", help="PUT a file, - for stdin"
    )
    request.add_argument("-L", "--location", action="store_true", help="follow redirects")
    request.add_argument(
        "--max-redirs", type=int, default=50, metavar="N", help="so many (default: %(default)s)"
    )
    request.add_argument(
        "-m", "--max-time", type=float, metavar="SECONDS", help="for each URL in all"
    )
    request.add_argument("--connect-timeout", type=float, metavar="SECONDS", help="for connecting")
    request.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="show on stderr whom it talks to, and all headers",
    )
    request.add_argument("-s", "--silent", action="store_true", help="no progress, no complaints")
    request.add_argument("-S", "--show-error", action="store_true", help="complaints all the same")
    request.add_argument("-4", dest="family", action="store_const", const=4, help="IPv4 only")
    request.add_argument("-6", dest="family", action="store_const", const=6, help="IPv6 only")
    add_client_options(parser)


class Whole(str):
    """Data of --data-binary."""


def run(arguments: argparse.Namespace) -> int:
    """Serves, fetches or lets in."""
    if arguments.what == "gateway":
        return _gateway(arguments)
    try:
        # With it come the libraries that speak HTTP.
        module = importlib.import_module(f"rawproto.cli.http_{arguments.what}")
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        raise UsageError(
            f"{arguments.what} needs {package}: pip install 'rawproto[http]'"
        ) from None
    code: int = module.run(arguments)
    return code


def _gateway(arguments: argparse.Namespace) -> int:
    check_relaying(arguments)
    source = parse_end(f"tcp-listen:{arguments.listen}")
    targets = [parse_address(each) for each in arguments.addresses.split(",")]
    ends = [End(kind=each.carrier, host=each.host, port=each.port) for each in targets]
    for end in ends:
        if not (end.host and end.port):
            raise UsageError(f"{end.kind}://{end.place}: connecting takes a host and a port")
    return asyncio.run(run_relay(arguments, source, tuple(ends), "http gateway", _url))


def _url(name: str) -> str:
    """What a browser takes for a listener."""
    place = name.removeprefix("tcp-listen:")
    return f"http://[::]{place}" if place.startswith(":") else f"http://{place}"
