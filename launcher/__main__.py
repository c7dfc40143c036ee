"""``./slipway``: reads the command line and hands over to the command."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence

from launcher import down, manage, testing, up, verify_bill
from launcher.doctor import doctor
from launcher.interruption import Interruption, from_signals
from launcher.output import Output
from launcher.refusal import Refusal
from launcher.settings import OPTIONS, Settings, help_table, load

DESCRIPTION = "A self-service console for containers, on its own runtime."

OWN_FLAGS = frozenset(option.flag for option in OPTIONS if option.flag)


def parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    for option in OPTIONS:
        if option.flag:
            common.add_argument(option.flag, dest=option.env, metavar=option.flag.lstrip("-").upper(), help=option.help)
    top = argparse.ArgumentParser(
        prog="./slipway",
        description=DESCRIPTION,
        epilog="settings (environment variables, and flags where there is one):\n" + help_table(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = top.add_subparsers(dest="verb", required=True, metavar="COMMAND")

    def verb(name: str, text: str, **more: object) -> argparse.ArgumentParser:
        return verbs.add_parser(name, help=text, description=text, parents=[common], **more)  # type: ignore[arg-type]

    one = verb("up", "Set up what is missing and run everything in the foreground. Ctrl-C stops it; containers go on.")
    one.add_argument("--set-up-only", action="store_true", help="Set up, start nothing.")
    one = verb("down", "Stop and remove all containers and their traces. Images, accounts and bills stay.")
    one.add_argument("--yes", action="store_true", help="Do not ask.")
    verb("doctor", "Check this machine, with the fix for what is wrong.")
    one = verb("manage", "Django's manage.py, in the right environment and as the right user.", add_help=False)
    one.add_argument("arguments", nargs=argparse.REMAINDER)
    one = verb("verify-bill", "Recompute an exported bill from its readings and prices, and name every difference.")
    one.add_argument("folder", help="Of the export.")
    one.add_argument("--with", dest="earlier", action="append", default=[], metavar="FOLDER",
                     help="Export of an earlier period, which corrections rest on. May be given again.")  # fmt: skip
    one.add_argument("--sha256", default="", help="The invoice's hash, as the console shows it.")
    one = verb("bench", "Run a bench: launch, density, ...")
    one.add_argument("name", nargs="?", default="")
    one.add_argument("--json", action="store_true", help="One JSON object instead of a table.")
    one.add_argument("--quick", action="store_true", help="Fewer runs, under 50 s.")
    one = verb("test", "Linters, types and tests; everything, or the parts named. Arguments after -- go to pytest.")
    one.add_argument("parts", nargs="*", metavar="PART", help=", ".join(testing.PARTS))
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, 1 when something failed or was refused, 2 for a wrong command line."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    output = Output()
    from_signals()
    words, rest = _split(words)
    try:
        chosen = parser().parse_args(words)
        settings = load(os.environ, {option.env: getattr(chosen, option.env) for option in OPTIONS if option.flag})
        return _verbs(chosen, rest, output)[chosen.verb](settings)
    except Refusal as refusal:
        sys.stdout.flush()
        print(f"slipway: {refusal}", file=sys.stderr)
        return refusal.exit_code
    except Interruption as interruption:
        output.line("slipway: interrupted; what was done stays, and the next start goes on from there")
        return interruption.exit_code


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """At the first ``--``.  Of what follows ``manage``, our own flags are ours as long as nothing else came."""
    if "manage" in words[:1]:
        position = 1
        while position < len(words) and words[position].partition("=")[0] in OWN_FLAGS:
            position += 1 if "=" in words[position] else 2
        return words[:position], words[position:]
    if "--" in words:
        position = words.index("--")
        return words[:position], words[position + 1 :]
    return words, []


def _verbs(chosen: argparse.Namespace, rest: Sequence[str], output: Output) -> Mapping[str, Callable[[Settings], int]]:
    return {
        "up": lambda settings: up.up(settings, output, set_up_only=chosen.set_up_only),
        "down": lambda settings: down.down(settings, output, yes=chosen.yes),
        "doctor": lambda settings: doctor(settings, output),
        "manage": lambda settings: manage.manage(settings, [*chosen.arguments, *rest]),
        "verify-bill": lambda _settings: verify_bill.main(
            [chosen.folder, "--sha256", chosen.sha256, *(word for one in chosen.earlier for word in ("--with", one))]
        ),
        "bench": lambda settings: testing.bench(
            settings, output, chosen.name, as_json=chosen.json, quick=chosen.quick, arguments=rest
        ),
        "test": lambda settings: testing.test(settings, output, chosen.parts, rest),
    }


if __name__ == "__main__":
    sys.exit(main())
