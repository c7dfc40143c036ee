"""The set-up: steps in order, each done only when what it depends on has changed since it was last done."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher import folders, packages
from launcher.checks import AFTER_PACKAGES, QUICK, Check, Finding, examine
from launcher.commands import run
from launcher.output import Output, Progress
from launcher.refusal import Refusal
from launcher.settings import Settings
from launcher.stamps import Stamps, fingerprint

REGISTRY_FIX = "Check the network, or a proxy (HTTPS_PROXY), and start again: it goes on where it stopped."


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the set-up leaves: the folder that the code runs from, and accounts made just now with their passwords."""

    code: Path
    accounts: tuple[dict[str, str], ...]


@dataclass(frozen=True, slots=True)
class Step:
    """``mark`` is the fingerprint of what the step depends on; ``there`` says whether its result still exists."""

    name: str
    title: str
    why: str
    mark: str
    do: Callable[[Progress], None]
    there: bool = True


def refuse_unfit(settings: Settings, checks: tuple[Check, ...] = QUICK) -> list[Finding]:
    """Returns the warnings.  Raises Refusal with every failed check and its fix."""
    findings = examine(settings, checks)
    failed = [finding for finding in findings if finding.level == "fail"]
    if failed:
        said = "\n".join(f"  - {finding.name}: {finding.found}. {finding.fix}" for finding in failed)
        raise Refusal(f"This machine cannot run Slipway as asked:\n{said}\n", "`./slipway doctor` prints every check.")
    return [finding for finding in findings if finding.level == "warn"]


class Setup:
    def __init__(self, settings: Settings, output: Output) -> None:
        self.settings = settings
        self.output = output
        self.stamps = Stamps(settings.home / "stamps")
        self.code = settings.source
        self._accounts: tuple[dict[str, str], ...] = ()

    def run(self) -> Prepared:
        """Raises Refusal; what was done until then stays and is not done again."""
        self.machine(packages.RUN)
        self.code = folders.code_for_user(self.settings)
        if self.code != self.settings.source:
            self._apply(self._copy())
        for make in (
            self._venv,
            self._external,
            self._node_modules,
            self._bytecode,
            self._translations,
            self._static,
            self._database,
            self._accounts_step,
        ):
            step = make()
            if step is not None:
                self._apply(step)
        return Prepared(self.code, self._accounts)

    def machine(self, wanted: tuple[packages.Package, ...]) -> None:
        """Packages, user, folders, secrets: what needs no Python environment."""
        lacking = packages.missing(wanted)
        if lacking:
            packages.install(lacking, self.output)
            still = packages.missing(wanted)
            if still:
                names = ", ".join(package.name for package in still)
                raise Refusal(
                    f"After installing, these are still not there: {names}.", "Install them by hand and start again."
                )
        mark = fingerprint(str(self.settings.home), Path("/proc/sys/kernel/osrelease"))
        if not self.stamps.fresh("host", mark):
            refuse_unfit(self.settings, AFTER_PACKAGES)
        if not folders.user_exists():
            with self.output.step(f"user {folders.USER}", "the web process and Redis run without root's rights"):
                folders.make_user()
        folders.make_folders(self.settings)
        self.stamps.put("host", mark)
        made = folders.make_secrets(self.settings)
        if made:
            self.output.line(f"  made the secrets {', '.join(made)} in {self.settings.home}/secrets")

    def _apply(self, step: Step) -> None:
        if step.there and self.stamps.fresh(step.name, step.mark):
            return
        self.stamps.drop(step.name)
        with self.output.step(step.title, step.why) as progress:
            step.do(progress)
        self.stamps.put(step.name, step.mark)

    # ------------------------------------------------------------------------------------------ dependencies

    def _copy(self) -> Step:
        source, target = self.settings.source, self.code
        mark = fingerprint(*(source / name for name in folders.CODE))
        why = f"the user {folders.USER} cannot read {source}"
        return Step(
            "app",
            f"copy of the code in {target}",
            why,
            mark,
            lambda progress: folders.copy_code(source, target, progress),
            target.exists(),
        )

    def _venv(self) -> Step | None:
        if self.settings.values["SLIPWAY_VENV"]:
            return None
        return venv_step(self.settings.venv, self.settings.source / "requirements/base.txt")

    def _node_modules(self) -> Step | None:
        if self.settings.values["SLIPWAY_NODE_MODULES"]:
            return None
        return node_modules_step(self.settings)

    # ------------------------------------------------------------------------------------------ the console

    def manage(self, progress: Progress, *arguments: str, user: str = folders.USER) -> str:
        return run(
            [self.settings.python, self.code / "manage.py", *arguments],
            progress,
            what=f"manage.py {arguments[0]}",
            environment=self.settings.environment(),
            folder=self.code,
            user=None if user == "root" else user,
        )

    def _bytecode(self) -> Step:
        """The web's user may not write beside the code, and would compile it anew at every start."""
        sources = [self.code / name for name in ("console", "runtime")]

        def compile_all(progress: Progress) -> None:
            run([self.settings.python, "-m", "compileall", "-q", *sources], progress, what="compileall")

        mark = fingerprint(str(self.settings.python), *sources)
        return Step("bytecode", "bytecode", "so that every start is quick", mark, compile_all)

    def _translations(self) -> Step | None:
        locale = self.code / "locale"
        catalogs = sorted(locale.glob("*/LC_MESSAGES/*.po"))
        if not catalogs:
            return None

        def compile_all(progress: Progress) -> None:
            for catalog in catalogs:
                target = catalog.with_suffix(".mo")
                run(
                    ["msgfmt", "--check-format", "-o", target, catalog], progress, what=f"msgfmt of {catalog.parts[-3]}"
                )
                target.chmod(0o644)

        there = all(catalog.with_suffix(".mo").exists() for catalog in catalogs)
        return Step(
            "translations", "translations", "English and Simplified Chinese", fingerprint(*catalogs), compile_all, there
        )

    def _static(self) -> Step:
        sources = (self.code / "static", self.settings.source / "package-lock.json", self.code / "console/settings")
        mark = fingerprint(*sources, self.code / "console/core")
        target = self.settings.home / "static"

        def collect(progress: Progress) -> None:
            self.manage(progress, "collectstatic", "--noinput", "--clear", "-v", "0")

        return Step(
            "static", "static files", "hashed and compressed for browsers", mark, collect, any(target.iterdir())
        )

    def _external(self) -> None:
        """Before anything is migrated or started.  Raises Refusal, which names the variable."""
        values = self.settings.values
        if not values["SLIPWAY_DATABASE_URL"] and not values["SLIPWAY_REDIS_URL"]:
            return
        with self.output.step("services", "the database and the Redis given by URL must answer") as progress:
            problems = _last_json(self.manage(progress, "check_external"))["problems"]
            if problems:
                raise Refusal(" ".join(one["what"] for one in problems), " ".join(one["fix"] for one in problems))

    def _database_identity(self) -> str:
        """Changes when the database was replaced; of one elsewhere nothing is known: its steps run every time."""
        if self.settings.values["SLIPWAY_DATABASE_URL"]:
            return ""
        try:
            return str((self.settings.home / "db/slipway.sqlite3").stat().st_ino)
        except FileNotFoundError:
            return ""

    def _database(self) -> Step:
        migrations = sorted((self.code / "console").glob("*/migrations"))
        mark = fingerprint(self.settings.source / "requirements/base.txt", *migrations, self.code / "console/settings")

        def migrate(progress: Progress) -> None:
            self.manage(progress, "migrate", "--noinput")

        return Step(
            "database", "database", "brings its tables up to date", mark, migrate, bool(self._database_identity())
        )

    def _accounts_step(self) -> Step:
        unseen = self._unseen.exists()

        def bootstrap(progress: Progress) -> None:
            self._unseen.touch()
            said = self.manage(progress, "bootstrap", "--json", *(["--renew"] if unseen else []))
            self._accounts = tuple(parse_accounts(said))

        identity = self._database_identity()
        there = bool(identity) and not unseen
        return Step("accounts", "accounts", "an admin, a demo tenant and its member", identity, bootstrap, there)

    @property
    def _unseen(self) -> Path:
        """There from before passwords are made until they were shown: a start that ended between makes new ones."""
        return self.settings.home / "stamps/passwords-unseen"

    def passwords_were_shown(self) -> None:
        self._unseen.unlink(missing_ok=True)


def _last_json(said: str) -> dict[str, Any]:
    """The last line that is JSON, for warnings may come before it."""
    for line in reversed(said.strip().splitlines()):
        if line.startswith("{"):
            return dict(json.loads(line))
    raise Refusal("manage.py did not say what it was asked for.", said.strip()[-400:])


def parse_accounts(said: str) -> list[dict[str, str]]:
    """What ``manage.py bootstrap --json`` printed."""
    return list(_last_json(said)["created"])


def venv_step(folder: Path, lock: Path) -> Step:
    """A virtual environment with exactly the locked packages, checked against their hashes."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    python = folder / "bin/python"

    def install(progress: Progress) -> None:
        stamp = folder / "python-version"
        if not python.exists() or not stamp.exists() or stamp.read_text(encoding="ascii") != version:
            shutil.rmtree(folder, ignore_errors=True)
            run(
                [sys.executable, "-m", "venv", str(folder)],
                progress,
                what="python3 -m venv",
                fix="Install python3-venv.",
            )
            stamp.write_text(version, encoding="ascii")
        pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
        command = [*pip, "--require-hashes", "--no-deps"]  # the lock is complete: nothing is left to resolve
        run([*command, "-r", str(lock)], progress, what="pip install", fix=REGISTRY_FIX)

    name = "venv" if lock.stem == "base" else f"venv-{lock.stem}"
    mark = fingerprint(version, lock)
    return Step(
        name, "Python environment", "Django, Channels, Celery and what they need", mark, install, python.exists()
    )


def node_modules_step(settings: Settings) -> Step:
    names = ("package.json", "package-lock.json", ".npmrc")
    target = settings.node_modules

    def install(progress: Progress) -> None:
        build = target.with_name(".node-build")
        shutil.rmtree(build, ignore_errors=True)
        build.mkdir(mode=0o755)
        npm = shutil.which("npm") or _npm_from_wheel(settings, build / "npm", progress)
        for name in names:
            shutil.copy2(settings.source / name, build / name)
        environment = settings.environment()
        environment["PATH"] = f"{Path(npm).parent}:{environment['PATH']}"
        environment["npm_config_cache"] = str(build / "cache")
        command = [npm, "ci", "--ignore-scripts", "--no-progress"]
        run(command, progress, what="npm ci", fix=REGISTRY_FIX, environment=environment, folder=build)
        old = build / "old"
        if target.exists():
            target.rename(old)
        (build / "node_modules").rename(target)
        shutil.rmtree(build)

    mark = fingerprint(*(settings.source / name for name in names))
    return Step("node_modules", "front-end libraries", "htmx, charts, terminal, looks", mark, install, target.is_dir())


def _npm_from_wheel(settings: Settings, folder: Path, progress: Progress) -> str:
    """npm from a wheel, for this once; the system's package would bring several hundred others."""
    progress.update("npm is missing here: fetching one")
    venv_step(folder, settings.source / "requirements/node.txt").do(progress)
    return str(folder / "bin/npm")
