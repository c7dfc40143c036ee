"""Questions in SQL to a tenant's own usage: what they answer, and all that they cannot reach."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import errno
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.db.models import Sum
from django.test import Client

from console.accounts.models import AuditEvent, Tenant, User
from console.live import client
from console.live.agent import queries
from console.live.dataset import QueryFailed, asked
from console.metering import services as metering
from console.metering.dataset import files
from console.metering.dataset.charting import chart
from console.metering.models import Period, RatedLine, RatingRun, Resource, UsageRecord
from console.metering.services import periods
from console.metering.services.rating import rate_period
from console.workloads.models import Container
from runtime.engines.fake.engine import FakeEngine
from runtime.home import Home
from tests.console.test_metering import at as counters
from tests.console.test_metering import final
from tests.console.test_metering_bills import CPU, MEMORY, MONTH, NEXT, OUT, period, published
from tests.live.agent import agent as running_agent

SOURCE = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(os.geteuid() != 0, reason="root makes the sandbox"),
]


@pytest.fixture(autouse=True)
def agent(tmp_path: Path, settings: Any) -> Iterator[None]:
    settings.HOME = tmp_path / "home"
    settings.AGENT_SOCKET = str(tmp_path / "agent.sock")
    tmp_path.chmod(0o755)
    with running_agent(FakeEngine(Home(tmp_path, "tfake")), tmp_path / "agent.sock"):
        yield


def container(tenant: Tenant, name: str) -> Container:
    return Container.objects.create(
        tenant=tenant, node="node", name=name, image_reference="i", memory_bytes=64 << 20, cpu_millis=1500
    )


def answered(tenant: Tenant, user: User, query: str, most: int = 1000) -> tuple[list[str], list[list[Any]], bool]:
    with asked(user=user, tenant=tenant, query=query, most=most) as answer:
        rows = list(answer.rows)
        return [name for name, _kind in answer.columns], rows, answer.more


def test_a_tenant_asks_its_own_tables_and_no_others(tenant: Tenant, member: User, outsider: User) -> None:
    container(tenant, "mine")
    container(outsider.tenants.get(), "theirs")
    assert answered(tenant, member, "SELECT name, vcpu FROM containers") == (["name", "vcpu"], [["mine", 1.5]], False)
    assert answered(tenant, member, "SELECT count(*) FROM usage")[1] == [[0]]
    assert answered(tenant, member, "SELECT sum(cost) FROM costs")[1] == [[None]]
    container(tenant, "later")
    assert answered(tenant, member, "SELECT count(*) FROM containers")[1] == [[2]]


def test_only_so_many_rows_come_and_it_is_said(tenant: Tenant, member: User) -> None:
    assert answered(tenant, member, "SELECT * FROM range(10)", most=3) == (["range"], [[0], [1], [2]], True)
    assert answered(tenant, member, "SELECT * FROM range(3)", most=3) == (["range"], [[0], [1], [2]], False)
    _columns, rows, more = answered(tenant, member, "SELECT * FROM range(100000)", most=1_000_000)
    assert (len(rows), rows[-1], more) == (100_000, [99_999], False)


def test_each_kind_of_value_is_plain(tenant: Tenant, member: User) -> None:
    query = """SELECT 1.10::DECIMAL(38,18), TIMESTAMPTZ '2026-01-02 03:04:05+00', NULL, true, 'é',
               [1, 2], {'a': 1}, 'x'::BLOB, 'NaN'::DOUBLE, DATE '2026-01-02', 170141183460469231731687303715884105727::HUGEINT"""
    assert answered(tenant, member, query)[1] == [
        ["1.1", "2026-01-02T03:04:05Z", None, True, "é", [1, 2], {"a": 1}, "78", "nan", "2026-01-02", 2**127 - 1]
    ]


def test_a_value_that_python_has_no_form_for_is_told_as_such(tenant: Tenant, member: User) -> None:
    value = "INTERVAL 100000000 YEARS"
    with pytest.raises(QueryFailed, match="a value that cannot be shown"):
        answered(tenant, member, f"SELECT {value}")
    assert len(answered(tenant, member, f"SELECT CAST({value} AS VARCHAR)")[1]) == 1


def test_no_digit_is_rounded_away(tenant: Tenant, member: User) -> None:
    """Decimals of DuckDB have 38 digits, Python's arithmetic 28 unless it is told otherwise."""
    long = "12345678901234567890.123456789012345678"
    query = f"SELECT {long}::DECIMAL(38,18), -{long}::DECIMAL(38,18), 100::DECIMAL(38,0), 0.000::DECIMAL(9,3), -0.50::DECIMAL(9,2)"
    assert answered(tenant, member, query)[1] == [[long, f"-{long}", "100", "0", "-0.5"]]


def test_quantities_of_a_month_have_their_digits(tenant: Tenant, member: User) -> None:
    """A correction is of one line: 28 digits with 18 behind the point are too few for it."""
    run = RatingRun.objects.create(
        period=Period.objects.create(tenant=tenant, starts_at=MONTH, ends_at=NEXT), currency="EUR"
    )
    Period.objects.update(run=run)
    many = Decimal("12345678901234.000000000000000001")
    resource = Resource.objects.create(id="r", tenant=tenant, kind="container", identity="c", name="c")
    RatedLine.objects.create(
        run=run, number=1, resource=resource, window=MONTH, meter="cpu", sku="CPU", unit="Core-Seconds", quantity=1,
        pricing_quantity=many, list_cost=many, cost=many, quality="exact",
    )  # fmt: skip
    assert answered(tenant, member, "SELECT quantity, cost FROM costs")[1] == [[str(many), str(many)]]


REFUSED = {
    "another file": "SELECT * FROM read_text('/etc/passwd')",
    "a file by its name": "SELECT * FROM '/etc/passwd'",
    "its own program": "SELECT * FROM read_text('/worker.py')",
    "a way out of the folder": "SELECT * FROM read_text('/data/../worker.py')",
    "writing": "COPY (SELECT 1) TO '/tmp/x.csv'",
    "writing beside the data": "COPY (SELECT 1) TO '/data/x.csv'",
    "another database": "ATTACH '/data/x.db'",
    "the network": "SELECT * FROM read_csv('http://127.0.0.1:1/x')",
    "an extension": "INSTALL httpfs",
    "loading": "LOAD httpfs",
    "a setting": "SET enable_external_access = true",
    "a change": "CREATE TABLE x AS SELECT 1",
    "a pragma": "PRAGMA database_list",
    "two": "SELECT 1; SELECT 2",
    "writing as it is explained": "EXPLAIN ANALYZE COPY (SELECT 1) TO '/data/x.csv'",
    "attaching as it is explained": "EXPLAIN ANALYZE ATTACH '/data/x.db'",
    "a file by a query in a text": "SELECT * FROM query('SELECT * FROM read_text(''/etc/passwd'')')",
    "folders": "SELECT * FROM glob('/etc/*')",
    "its own memory": "SELECT * FROM read_blob('/proc/self/environ')",
    "none": "-- nothing",
    "nonsense": "SELEC 1",
    "no such table": "SELECT * FROM django_session",
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_a_question_may_not_reach_is_refused(tenant: Tenant, member: User, what: str) -> None:
    with pytest.raises(QueryFailed) as refused:
        answered(tenant, member, REFUSED[what])
    assert str(refused.value)
    assert "root:" not in str(refused.value)


SLOW = (
    "SELECT count(*) FROM range(100000) a, range(100000) b, range(100000) c WHERE (a.range + b.range) % 7 = c.range % 3"
)


def test_memory_and_time_have_an_end(tenant: Tenant, member: User, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(QueryFailed, match="more memory or time than one may have"):
        answered(tenant, member, "SELECT list(range) FROM range(1000000000)")
    with pytest.raises(QueryFailed, match="more memory or time than one may have"):
        answered(tenant, member, "SELECT length(repeat('x', 2000000000))")  # DuckDB's own limit does not count it
    with monkeypatch.context() as hurried:
        hurried.setattr(queries, "FIRST_LINE_S", 1.0)
        with pytest.raises(QueryFailed, match="takes too long"):
            answered(tenant, member, SLOW)
        hurried.setattr(client, "ANSWER_S", 0.7)  # of the first word; the agent has said it by then
        with pytest.raises(QueryFailed, match="takes too long"):
            answered(tenant, member, SLOW)
    assert client.QUERY_S > queries.FIRST_LINE_S + queries.WAIT_S
    assert answered(tenant, member, "SELECT 1")[1] == [[1]]  # and the next is answered
    deadline = time.monotonic() + 20
    while left := _sandboxed(tenant):
        assert time.monotonic() < deadline, (
            left
        )  # the kernel ends the rest of the namespace soon after its first process
        time.sleep(0.05)


def _sandboxed(tenant: Tenant) -> list[str]:
    """Processes in a sandbox of this tenant's: others' tests may run beside this one."""
    found = []
    for mounts in Path("/proc").glob("[0-9]*/mountinfo"):
        with contextlib.suppress(OSError):  # it ended
            if f"/dataset/{tenant.pk}/q-" in mounts.read_text():
                found.append(mounts.parent.name)
    return found


def test_the_database_begins_no_threads_for_the_nodes_processors() -> None:
    """Their stacks would count in what a question may have: of more than some dozen nothing was left."""
    program = "import os; from console.metering.dataset import worker; worker.opened(); print(len(os.listdir('/proc/self/task')))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=SOURCE)
    assert int(done.stdout) <= 2


def test_an_answer_that_is_too_large_is_refused_where_it_would_be_held_in_memory(tenant: Tenant, viewer: User) -> None:
    page = Client()
    page.force_login(viewer)
    for path in ("/usage/sql/", "/usage/sql/answer.json"):
        answer = page.post(path, {"query": "SELECT range(2000000)"})
        assert (answer.status_code, "A row of the answer" in answer.content.decode()) == (422, True)
    many = {"query": "SELECT repeat('x', 10000) AS x FROM range(1000)"}
    answer = page.post("/usage/sql/", many)
    assert (answer.status_code, "or download it" in answer.content.decode()) == (422, True)
    assert len(page.post("/usage/sql/answer.csv", many).getvalue()) > 10_000_000


def test_the_sandbox_has_nothing_of_the_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs in it when DuckDB is left out of account: nobody, no rights, no network, no file but the system's and the data."""
    probe = tmp_path / "probe.py"
    probe.write_text(
        "import json, os, socket\n"
        "status = dict(l.split(':', 1) for l in open('/proc/self/status').read().splitlines() if ':' in l)\n"
        "def tried(deed):\n"
        "    try: deed()\n"
        "    except OSError: return False\n"
        "    return True\n"
        "print(json.dumps({'uid': os.getuid(), 'caps': int(status['CapBnd'], 16) | int(status['CapEff'], 16), 'new': status['NoNewPrivs'].strip(),\n"
        "  'root': sorted(os.listdir('/')), 'data': os.listdir('/data'), 'links': os.listdir('/sys') if os.path.exists('/sys') else [],\n"
        "  'network': tried(lambda: socket.create_connection(('127.0.0.1', 22), 1)), 'write': tried(lambda: open('/tmp/x', 'w')) or tried(lambda: open('/data/x', 'w')),\n"
        "  'processes': len([p for p in os.listdir('/proc') if p.isdigit()]), 'environment': sorted(os.environ)}))\n"
    )
    data = tmp_path / "data"
    data.mkdir()
    (data / "one.parquet").write_text("x")
    monkeypatch.setattr(queries, "WORKER", probe)

    async def look() -> dict[str, Any]:
        async with queries._sandbox(data) as process:
            out, error = await process.communicate(b"")
            assert process.returncode == 0, error.decode()
            return dict(json.loads(out))

    found = asyncio.run(look())
    assert (found["uid"], found["caps"], found["new"]) == (65534, 0, "1")
    assert (found["data"], found["links"]) == (["one.parquet"], [])
    assert not {"etc", "var", "root", "home", "run", "srv", "work"} & (set(found["root"]) - {"etc"})
    assert (found["network"], found["write"]) == (False, False)
    assert found["processes"] <= 3
    assert set(found["environment"]) <= {"PWD", "LC_CTYPE"}


@pytest.mark.parametrize(
    ("args", "why"),
    [
        ({"query": "", "folder": "q-" + "0" * 24, "most": 1}, "no question"),
        ({"query": "SELECT 1", "folder": "../other", "most": 1}, "no such data"),
        ({"query": "SELECT 1", "folder": "q-" + "0" * 24, "most": 1}, "no such data"),
        ({"query": "x" * 10_001, "folder": "q-" + "0" * 24, "most": 1}, "too long"),
    ],
)
def test_the_agent_takes_no_other_folder(tenant: Tenant, member: User, args: dict[str, Any], why: str) -> None:
    with pytest.raises(client.AgentRefused, match=why):
        list(client.query(member, tenant, args))


def test_one_at_a_time_of_a_tenant_and_who_leaves_ends_it(
    tenant: Tenant, member: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "WAIT_S", 0.5)
    with files.linked(tenant) as folder:
        stream = client.query(member, tenant, {"query": SLOW, "folder": folder, "most": 1})
        with pytest.raises(client.AgentRefused, match="being answered"):
            answered(tenant, member, "SELECT 1")
        assert _sandboxed(tenant)
        stream.close()  # type: ignore[attr-defined]
        monkeypatch.setattr(queries, "WAIT_S", 5)  # less than the first would take
        assert answered(tenant, member, "SELECT 1")[1] == [[1]]


def test_who_leaves_a_long_answer_keeps_nobody_waiting(tenant: Tenant, member: User) -> None:
    """Not even until Python's next search for what nobody refers to any more, which had ended it."""
    gc.disable()
    try:
        for _ in range(3):
            query = "SELECT repeat('x', 1000) FROM range(1000000)"
            with asked(user=member, tenant=tenant, query=query, most=1_000_000) as answer:
                assert len(next(answer.rows)[0]) == 1000
            assert answered(tenant, member, "SELECT 1")[1] == [[1]]
    finally:
        gc.enable()


def test_what_is_over_is_written_once_and_a_crash_leaves_no_folder(tenant: Tenant, tmp_path: Path) -> None:
    container(tenant, "mine")
    home = files.folder(tenant.id)
    with files.linked(tenant) as name:
        first = {path.name: path.stat().st_ino for path in (home / name).iterdir()}
    old = home / "q-abandoned"
    old.mkdir()
    os.utime(old, (0, 0))
    with files.linked(tenant) as name:
        second = {path.name: path.stat().st_ino for path in (home / name).iterdir()}
        assert [path.name for path in home.glob("q-*")] == [name]
    kept = {name for name, inode in first.items() if second.get(name) == inode}
    assert kept == {name for name in first if not name.startswith("containers.")}
    assert not list(home.glob("q-*"))
    assert not list(home.glob(".*"))


def test_a_question_that_another_overtakes_has_its_tables_too(
    tenant: Tenant, member: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever writes the tables anew takes the older ones away, also those that somebody is just about to link."""
    container(tenant, "one")
    link, overtaken = os.link, 0

    def late(source: Path, target: Path) -> None:
        nonlocal overtaken
        if source.name.startswith("containers.") and not overtaken:
            overtaken += 1
            files.refresh(tenant)
        link(source, target)

    monkeypatch.setattr(files.os, "link", late)
    assert answered(tenant, member, "SELECT name FROM containers")[1] == [["one"]]
    assert overtaken == 1
    assert not list(files.folder(tenant.id).glob("q-*"))


def test_tables_that_cannot_be_written_are_told(tenant: Tenant, viewer: User, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "write", full)
    page = Client()
    page.force_login(viewer)
    for path in ("/usage/sql/", "/usage/sql/answer.csv"):
        answer = page.post(path, {"query": "SELECT 1"})
        assert answer.status_code == 422
        assert "cannot be written" in answer.content.decode()


def test_the_page_answers_and_refuses_on_the_spot(tenant: Tenant, viewer: User) -> None:
    container(tenant, "<b>mine</b>")
    page = Client()
    page.force_login(viewer)
    assert (
        b"answer"
        not in page.get("/usage/sql/?query=SELECT+name+FROM+containers").content.split(b"<main")[1].split(b"ask")[0]
    )
    answer = page.post("/usage/sql/", {"query": "SELECT name, vcpu FROM containers"})
    text = answer.content.decode()
    assert answer.status_code == 200
    assert "&lt;b&gt;mine&lt;/b&gt;" in text
    assert "<b>mine</b>" not in text
    assert '"series": [{"label": "vcpu", "values": [1.5]}]' in text
    refused = page.post("/usage/sql/", {"query": "SELECT nothing FROM containers"})
    assert (refused.status_code, "nothing" in refused.content.decode()) == (422, True)
    assert "SELECT nothing FROM containers</textarea>" in refused.content.decode(), "what was written is still there"


def test_a_download_has_all_rows(tenant: Tenant, viewer: User) -> None:
    container(tenant, "=1+1")
    page = Client()
    page.force_login(viewer)
    query = {"query": "SELECT range AS number, '=1+1' AS name FROM range(2500)"}
    lines = page.post("/usage/sql/answer.csv", query).getvalue().decode().split("\r\n")
    assert (lines[0], lines[1], lines[2500], len(lines)) == ("number,name", "0,'=1+1", "2499,'=1+1", 2502)
    found = json.loads(page.post("/usage/sql/answer.json", query).getvalue())
    assert (len(found), found[-1]) == (2500, {"number": 2499, "name": "=1+1"})
    told = AuditEvent.objects.filter(verb="usage.sql").order_by("pk")
    assert [(one.user, one.tenant, one.target, one.data) for one in told.all()] == [
        (viewer, tenant, kind, query) for kind in ("csv", "json")
    ]
    refused = page.post("/usage/sql/answer.csv", {"query": "DROP VIEW usage"})
    assert refused.status_code == 422
    assert refused.content.startswith(b"Ask with one SELECT")
    refused = page.post("/usage/sql/answer.csv", {"query": "DROP VIEW usage"}, headers={"accept": "text/html"})
    assert refused.status_code == 422
    assert b">DROP VIEW usage</textarea>" in refused.content, "a browser has the page with the question as it was typed"
    assert b"Ask with one SELECT" in refused.content
    assert told.count() == 2, "nothing left the house"
    assert not list(files.folder(tenant.id).glob("q-*"))


def test_columns_of_one_name_are_all_in_the_download(tenant: Tenant, viewer: User) -> None:
    page = Client()
    page.force_login(viewer)
    answer = page.post("/usage/sql/answer.json", {"query": "SELECT 1 AS a, 2 AS a, 3 AS a_1, 4 AS a"})
    assert json.loads(answer.getvalue()) == [{"a": 1, "a_2": 2, "a_1": 3, "a_3": 4}]


@pytest.mark.parametrize(
    ("columns", "rows", "drawn"),
    [
        ([("day", "TIMESTAMP WITH TIME ZONE"), ("name", "VARCHAR"), ("cost", "DECIMAL(38,18)")],
         [["2026-01-01T00:00:00Z", "a", "1.5"], ["2026-01-02T00:00:00Z", "b", "2"]],
         {"labels": ["2026-01-01", "2026-01-02"], "unit": "cost",
          "series": [{"label": "a", "values": [1.5, 0]}, {"label": "b", "values": [0, 2.0]}]}),
        ([("name", "VARCHAR"), ("n", "BIGINT"), ("m", "DOUBLE")], [["a", 1, None]],
         {"labels": ["a"], "unit": "", "series": [{"label": "n", "values": [1.0]}, {"label": "m", "values": [0.0]}]}),
        ([("name", "VARCHAR"), ("n", "DOUBLE")], [["a", "inf"], ["b", "-inf"], ["c", "nan"], ["d", 2]],
         {"labels": ["a", "b", "c", "d"], "unit": "", "series": [{"label": "n", "values": [0.0, 0.0, 0.0, 2.0]}]}),
        ([("n", "BIGINT")], [[1]], None),
        ([("name", "VARCHAR"), ("other", "VARCHAR")], [["a", "b"]], None),
        ([("name", "VARCHAR"), ("n", "BIGINT")], [], None),
    ],
)  # fmt: skip
def test_what_can_be_drawn_is_drawn(columns: Any, rows: Any, drawn: Any) -> None:
    assert chart(columns, rows) == drawn


def test_of_many_names_the_largest_are_drawn_and_the_rest_together() -> None:
    """An answer of a dozen containers by the day had no picture."""
    columns = [("day", "DATE"), ("name", "VARCHAR"), ("cost", "DOUBLE")]
    drawn = chart(columns, [[day, f"c{number}", number * 10] for day in ("1", "2") for number in range(1, 13)])
    assert drawn
    assert [one["label"] for one in drawn["series"]] == [*(f"c{n}" for n in range(12, 4, -1)), "everything else"]
    assert drawn["series"][-1]["values"] == [100, 100]


def test_sums_over_the_tables_are_those_of_the_records_and_of_the_rating(tenant: Tenant, member: User) -> None:
    one = Container.objects.create(
        tenant=tenant, node="n", name="used", image_reference="i", memory_bytes=1 << 30, cpu_millis=1500
    )
    metering.ingest_final(final(one, counters(90_000, cpu_ns=10**12 + 7, net_tx_bytes=3 * 10**9 + 1)))
    published(CPU, MEMORY, OUT)
    rate_period(period().pk)
    for meter, quantity in UsageRecord.objects.values_list("meter").annotate(Sum("quantity")):
        query = f"SELECT sum(quantity), count(DISTINCT hour) FROM usage WHERE meter = '{meter}' AND id = '{one.id}'"
        assert answered(tenant, member, query)[1] == [[quantity, 26]]
    costs = [Decimal(cost) for cost in RatedLine.objects.values_list("cost", flat=True)]
    [[summed, currency]] = answered(tenant, member, "SELECT sum(cost), any_value(currency) FROM costs")[1]
    assert (Decimal(summed), currency) == (sum(costs), "EUR")
    assert sum(costs)


def test_of_a_month_that_runs_a_day_is_written_anew_and_not_the_days_before(
    tenant: Tenant, member: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is anything missing or there twice, then and when it is over, corrections included."""

    def now(at: dt.datetime) -> None:
        monkeypatch.setattr(files, "timezone", SimpleNamespace(now=lambda: at))

    def written() -> dict[str, int]:
        rate_period(Period.objects.latest("starts_at").pk)
        costs = RatedLine.objects.filter(run__current_of__isnull=False).values_list("cost", "correction")
        [[cost, late, quantity]] = answered(
            tenant,
            member,
            "SELECT (SELECT sum(cost) FROM costs), (SELECT count(*) FROM costs WHERE correction), (SELECT sum(quantity) FROM usage)",
        )[1]
        assert (Decimal(cost), late) == (sum(one for one, _ in costs), sum(correction for _, correction in costs))
        assert quantity == UsageRecord.objects.aggregate(sum=Sum("quantity"))["sum"]
        return {path.name: path.stat().st_ino for path in files.folder(tenant.id).glob("*.parquet")}

    one, two = container(tenant, "one"), container(tenant, "two")
    published(CPU, MEMORY, OUT)
    now(NEXT - dt.timedelta(days=1))
    metering.ingest_final(final(one, counters(90_000, cpu_ns=10**12 + 7, net_tx_bytes=3 * 10**9 + 1)))
    before = written()
    last = final(two, counters(95_000, cpu_ns=10**12, net_tx_bytes=10**9))
    metering.ingest_final(replace(last, started_at=last.started_at + 86_400))
    after = written()
    kept = {name.rsplit(".", 2)[0] for name, inode in before.items() if after.get(name) == inode}
    assert kept == {"usage.2026-11-23", "usage.none", "costs.2026-11-23", "costs.none"}
    periods.close(period().pk, NEXT)
    now(NEXT + dt.timedelta(days=1))
    metering.ingest_final(final(one, counters(9000, cpu_ns=5 * 10**12, net_tx_bytes=0), epoch=2))
    names = {name.rsplit(".", 2)[0] for name in written()}
    assert names == {
        "usage.2026-11",
        "usage.none",
        "costs.2026-11",
        "costs.2026-12-late",
        "costs.none",
        "containers.all",
    }
