"""The phases: a storm, a log that cannot be written, descriptors that run out, a shutdown and a kill in the midst of it.

A phase starts a gateway of its own, disturbs it, and hands what was seen to `checks`.
"""

import asyncio
import fcntl
import os
import pathlib
import random
import signal
import socket
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Iterable

import checks
from callers import Caller, Control, World, measure_lag, probe
from client import Connection, Cut
from ledger import Ledger
from machines import DRAIN, KEYS, STALL, Gateway, Upstreams, total

# Files that are no configuration, or one that must not be put in force.
BROKEN = [b"", b"{", b"\x00\x01", b"server: 5\n", b"auth: { keys: [] }\nunknown: 1\n", b"providers: &a [*a, *a]\n", b"models: {}\n" * 3,
          b"[" * 3000, b"providers: { x: { dialect: nobody } }\n", b"server: { listen: \"${NOBODY}\" }\n"]
SHOWN = 12  # how many problems of one check are printed


class Suite:
    """All phases with one seed. Failures are counted and shown; nothing stops at the first."""

    def __init__(self, binary: str, work: pathlib.Path, seed: int) -> None:
        self.binary, self.work, self.seed = binary, work, seed
        self.upstreams = Upstreams(binary, work)
        self.failures: list[str] = []
        self.passed, self.began = 0, time.monotonic()

    def check(self, what: str, problems: Iterable[str]) -> None:
        problems = list(problems)
        print(f"{'FAILED ' if problems else 'ok     '} {time.monotonic() - self.began:4.0f} s  {what}", flush=True)
        for problem in problems[:SHOWN]:
            print(f"          {problem}", flush=True)
        if len(problems) > SHOWN:
            print(f"          and {len(problems) - SHOWN} more", flush=True)
        self.passed += not problems
        self.failures += [what] * bool(problems)

    async def all(self, storm: int, wanted: list[str]) -> None:
        """The phases with these names. Those that touch no upstream run at the same time."""
        logs = [("log", lambda kind=kind: self.log(kind)) for kind in ("full", "gone", "unread", "pausing")]
        steps = [[("storm", lambda: self.storm(storm))], logs, [("shutdown", self.shutdown), ("kill", self.kill)],
                 [("descriptors", self.descriptors)]]
        try:
            for step in steps:
                await asyncio.gather(*(self.phase(name, run) for name, run in step if name in wanted))
            self.check("the scripted upstreams", [fault for fault in [self.upstreams.faults()] if fault])
        finally:
            self.upstreams.stop()
        print(f"{self.passed} passed, {len(self.failures)} failed, in {time.monotonic() - self.began:.0f} s", flush=True)

    async def phase(self, name: str, run: Callable[[], Awaitable]) -> None:
        """A phase. One that breaks off, because the gateway does not answer, has failed."""
        try:
            await run()
        except Exception as error:
            self.check(f"{name}: goes on to its end", [repr(error), *traceback.format_tb(error.__traceback__)[-2:]])

    async def soak(self, seconds: int) -> None:
        try:
            figures = await self.storm(seconds)
        finally:
            self.upstreams.stop()
        print("\n" + "\n".join(f"| {name:<42} | {value:>22} |" for name, value in figures.items()), flush=True)

    def gateway(self, name: str, **more) -> Gateway:
        return Gateway(self.binary, self.work, name, self.upstreams.ports(), **more)

    def world(self, gateway: Gateway, ledger: Ledger) -> World:
        return World(gateway.port, ledger, asyncio.Event(), KEYS)

    # --- the storm ---

    async def storm(self, seconds: int) -> dict[str, object]:
        gateway, ledger = self.gateway("storm"), Ledger("s")
        floor = gateway.figures()
        await self.crowd(gateway, ledger, 6, callers=30, grace=2)
        warm = await self.settled(gateway, floor)
        watch = Watch(gateway)
        troubles = Troubles(gateway, self.upstreams, random.Random(f"{self.seed}-troubles"))
        await self.crowd(gateway, ledger, seconds, callers=45, quiet=3, grace=STALL, more=[watch.run, troubles.reload, troubles.kill])
        metrics, answers = await self.quiet(gateway)
        after = await self.settled(gateway, floor)
        # The Responses API keeps responses for an hour (`streams.store`): memory that is used, not lost.
        kept = int(total(metrics, "streamgate_memory_used_bytes", share="streams")) >> 10
        status, took = await asyncio.to_thread(gateway.stop, DRAIN + 10)
        found, problems = checks.log(gateway.log.read_text())
        sent = len(ledger.entries)
        print(f"storm: {sent} requests, {len(found)} records, {troubles.reloads} reloads, {troubles.kills} upstreams killed, "
              f"longest silence {ledger.silence:.2f} s, longest wait for health {ledger.health:.2f} s, "
              f"callers held up for {ledger.lag:.2f} s", flush=True)
        self.check("storm: the log has no panic and no foreign line", problems)
        self.check("storm: one record for each request, which says what its caller saw", checks.records(ledger.entries, found))
        self.check("storm: every answer ended honestly, with its own tokens", checks.answers(ledger.entries))
        self.check("storm: control streams were never silenced", checks.control(ledger))
        self.check("storm: metrics equal the records", checks.counted(metrics, found))
        self.check("storm: nothing is held", checks.idle(metrics, answers))
        self.check("storm: memory, descriptors and threads are back", checks.back({**floor, "memory": warm["memory"] + kept}, after))
        self.check("storm: exit status 0", [] if status == 0 else [f"{status} after {took:.1f} s"])
        ids = [record["request_id"] for record in found]
        missing = len({entry.id for entry in ledger.entries.values() if entry.record == "one"} - set(ids))
        wrong = [entry for entry in ledger.entries.values() if entry.problems or entry.end == "silent"]
        return {
            "requests begun": sent, "records": len(found), "metric `streamgate_requests_total`": int(total(metrics, "streamgate_requests_total")),
            "records doubled": len(ids) - len(set(ids)), "records missing": missing, "answers wrong": len(wrong),
            "answers complete / failed / cut / left": " / ".join(str(sum(entry.end == end for entry in ledger.entries.values()))
                                                                 for end in ("complete", "failed", "cut", "left")),
            "nonsense connections": ledger.counts["nonsense"], "reloads, good and bad": troubles.reloads, "upstreams killed": troubles.kills,
            "control streams": sum(entry.conduct == "control" for entry in ledger.entries.values()),
            "longest silence of a control stream, s": f"{ledger.silence:.2f}", "longest wait for health, s": f"{ledger.health:.2f}",
            "callers themselves held up for, s": f"{ledger.lag:.2f}",
            "memory, MiB: after start / min / max / end": f"{warm['memory'] >> 10} / {watch.least['memory'] >> 10} / {watch.most['memory'] >> 10} / {after['memory'] >> 10}",
            "of which stored responses, MiB": kept >> 10,
            "descriptors: start / max / end": f"{floor['descriptors']} / {watch.most['descriptors']} / {after['descriptors']}",
            "threads: start / max / end": f"{floor['threads']} / {watch.most['threads']} / {after['threads']}",
            "exit status": status,
        }

    async def crowd(self, gateway: Gateway, ledger: Ledger, seconds: float, callers: int, quiet: int = 0, grace: float = 4, more=()) -> None:
        """Callers for some time; then all answers are awaited, for a while."""
        world, ledger.quiet = self.world(gateway, ledger), ledger.quiet or quiet > 0
        tag = f"{self.seed}-{ledger.name}-{len(ledger.entries)}"
        ordinary = [asyncio.create_task(Caller(world, f"{tag}-{number}").run()) for number in range(callers)]
        control = [asyncio.create_task(Control(world, f"{tag}-c{number}", number < quiet).run()) for number in range(quiet + 5)]
        beside = [asyncio.create_task(probe(world)), asyncio.create_task(measure_lag(world)), *(asyncio.create_task(run(world.over)) for run in more)]
        await asyncio.sleep(seconds)
        world.over.set()
        await asyncio.gather(*control, *beside)
        _, late = await asyncio.wait(ordinary, timeout=grace)
        for task in late:
            task.cancel()
        for result in await asyncio.gather(*ordinary, return_exceptions=True):
            if isinstance(result, Exception):
                raise result

    async def quiet(self, gateway: Gateway, seconds: float = 30) -> tuple[dict, int]:
        """The metrics, and the upstreams' answers under way, once nothing is held any more; or when the time is over."""
        end = time.monotonic() + seconds
        while True:
            metrics, answers = await asyncio.to_thread(lambda: (gateway.metrics(), self.upstreams.open_answers()))
            if not checks.idle(metrics, answers) or time.monotonic() > end:
                return metrics, answers
            await asyncio.sleep(0.25)

    async def settled(self, gateway: Gateway, floor: dict[str, int], seconds: float = 45) -> dict[str, int]:
        """What the gateway costs once everything is over. Upstreams end, so that no pool keeps a connection to them."""
        for process in self.upstreams.all.values():
            process.kill()
        for process in self.upstreams.all.values():
            await asyncio.to_thread(process.start)
        end = time.monotonic() + seconds
        # From here on nobody asks it anything: each answer would take a descriptor and a thread for a while.
        while checks.back({**floor, "memory": 1 << 40}, figures := gateway.figures()) and time.monotonic() < end:
            await asyncio.sleep(0.25)
        if time.monotonic() > end:
            print(gateway.holdings(), flush=True)
        return figures

    # --- the log ---

    async def log(self, kind: str) -> None:
        """Standard error is a full disk, a pipe whose reader is gone, one that nobody reads, or one whose reader pauses."""
        sink = Sink(kind)
        gateway, ledger = self.gateway(f"log-{kind}", stderr=sink.file), Ledger(f"l{kind}")
        sink.begin()
        await self.crowd(gateway, ledger, 4, callers=12, more=[Troubles(gateway, self.upstreams, random.Random(f"{self.seed}-{kind}")).reload])
        metrics, _ = await self.quiet(gateway)
        status, took = await asyncio.to_thread(gateway.stop, DRAIN + 10)
        found, problems = checks.log(sink.end())
        sure = sum(entry.record == "one" for entry in ledger.entries.values())
        ended, lost = total(metrics, "streamgate_requests_total"), total(metrics, "streamgate_log_lines_lost_total")
        # A nonsense connection may be a question for the models, which is counted and has no entry.
        most = len(ledger.entries) + ledger.counts["nonsense"]
        if not sure <= ended <= most:
            problems.append(f"{sure} to {most} requests, and the metric says {ended:.0f}")
        if kind == "pausing":
            problems += checks.records(ledger.entries, found) + checks.counted(metrics, found)
        elif kind != "unread" and len(found) + lost < ended:
            problems.append(f"{ended:.0f} requests, of which {len(found)} have records, and {lost:.0f} lines were lost")
        if kind != "pausing" and len(found) == ended:
            problems.append("no line was held up, so that this tested nothing")
        problems += checks.answers(ledger.entries) + checks.control(ledger) + checks.idle(metrics)
        problems += [] if status == 0 else [f"exit status {status} after {took:.1f} s"]
        self.check(f"log, {kind}: {ended:.0f} requests, {len(found)} records read, {lost:.0f} lines lost, ended in {took:.1f} s", problems)

    # --- descriptors ---

    async def descriptors(self) -> None:
        """A flood of connections takes every descriptor: streams under way go on, and afterwards all is as before."""
        gateway, ledger = self.gateway("descriptors", limit=128), Ledger("d")
        floor, world = gateway.figures(), self.world(gateway, ledger)
        control = [asyncio.create_task(Control(world, f"{self.seed}-d{number}", False).once()) for number in range(8)]
        await asyncio.sleep(0.4)
        flood = [socket.socket() for _ in range(400)]
        for number, one in enumerate(flood):
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", gateway.port))
            if number % 2:
                await asyncio.sleep(0)
                one.send(b"POST /v1/messages HTTP/1.1\r\n") if number < 100 else None
        await asyncio.sleep(3)
        most = gateway.figures()["descriptors"]
        await asyncio.gather(*control)
        for one in flood:
            one.close()
        problems = [] if most > 50 else [f"no more than {most} descriptors were open, so that this tested nothing"]
        await self.recovered(gateway, problems)
        await self.crowd(gateway, ledger, 3, callers=6)
        metrics, _ = await self.quiet(gateway)
        after = await self.settled(gateway, floor)
        status, took = await asyncio.to_thread(gateway.stop, DRAIN + 10)
        found, more = checks.log(gateway.log.read_text())
        problems += more + checks.records(ledger.entries, found) + checks.answers(ledger.entries) + checks.control(ledger)
        problems += checks.idle(metrics) + checks.back(floor, after) + ([] if status == 0 else [f"exit status {status} after {took:.1f} s"])
        self.check(f"descriptors: 400 connections at `ulimit -n 128`, {most} open at most, {len(found)} records", problems)

    async def recovered(self, gateway: Gateway, problems: list[str]) -> None:
        """Waits until health is answered again, no longer than idle connections may stay."""
        end = time.monotonic() + 15
        while time.monotonic() < end:
            try:
                connection = await Connection.open(gateway.port)
                await connection.send(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
                async with asyncio.timeout(2):
                    status, _ = await connection.head()
                connection.leave("close")
                if status == 200:
                    return
            except (Cut, TimeoutError):
                await asyncio.sleep(0.1)
        problems.append("/healthz does not answer after the flood")

    # --- ends ---

    async def shutdown(self) -> None:
        """SIGTERM with streams under way: each completes or ends with an error, and the process ends in time."""
        gateway, ledger = self.gateway("shutdown"), Ledger("t")
        stopped: list = []

        async def stop(over: asyncio.Event) -> None:
            await over.wait()
            ledger.stopping = True
            stopped.extend(await asyncio.to_thread(gateway.stop, DRAIN + 12))

        await self.crowd(gateway, ledger, 4, callers=30, quiet=6, grace=DRAIN + 12, more=[stop])
        status, took = stopped
        found, problems = checks.log(gateway.log.read_text())
        problems += checks.records(ledger.entries, found) + checks.answers(ledger.entries, stopping=True)
        ended = sum(record["outcome"] == "shutting_down" for record in found)
        problems += [] if ended else ["no stream was ended by the shutdown, so that this tested nothing"]
        problems += [] if status == 0 else [f"exit status {status} after {took:.1f} s"]
        self.check(f"shutdown: {len(found)} records, {ended} streams ended with an error, exit after {took:.1f} s", problems)

    async def kill(self) -> None:
        """SIGKILL with streams under way: none looks complete, and the next process serves as if nothing had been."""
        gateway, before, after = self.gateway("kill"), Ledger("b"), Ledger("a")

        async def kill(over: asyncio.Event) -> None:
            await over.wait()
            before.stopping = True
            gateway.kill()

        await self.crowd(gateway, before, 3, callers=30, more=[kill])
        # Records of questions have ids of the gateway's own: which process wrote a line shows by its position alone.
        written = len(gateway.log.read_text())
        gateway.start()
        await self.crowd(gateway, after, 3, callers=15)
        metrics, _ = await self.quiet(gateway)
        status, took = await asyncio.to_thread(gateway.stop, DRAIN + 10)
        text = gateway.log.read_text()
        earlier, problems = checks.log(text[:written])
        later, more = checks.log(text[written:])
        problems += more
        # The last lines of a killed process are lost.
        for entry in before.entries.values():
            entry.record = "none" if entry.record == "none" else "maybe"
            entry.verdict = "broken" if entry.verdict == "broken" else "either"
        problems += checks.records(before.entries, earlier) + checks.records(after.entries, later)
        problems += checks.answers(before.entries) + checks.answers(after.entries) + checks.counted(metrics, later) + checks.idle(metrics)
        problems += [] if status == 0 else [f"exit status {status} after {took:.1f} s"]
        self.check(f"kill: {len(earlier)} records before, {len(later)} after", problems)


class Watch:
    """The least and the most of a gateway's figures."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.least = self.most = gateway.figures()

    async def run(self, over: asyncio.Event) -> None:
        while not over.is_set():
            now = self.gateway.figures()
            self.least = {name: min(value, now[name]) for name, value in self.least.items()}
            self.most = {name: max(value, now[name]) for name, value in self.most.items()}
            await asyncio.sleep(0.5)


class Troubles:
    """What operators and machines do meanwhile: configurations change, good and bad, and upstreams die."""

    def __init__(self, gateway: Gateway, upstreams: Upstreams, rng: random.Random) -> None:
        self.gateway, self.upstreams, self.random = gateway, upstreams, rng
        self.reloads = self.kills = 0

    async def reload(self, over: asyncio.Event) -> None:
        number = 0
        while not over.is_set():
            number += 1
            match self.random.choice(["good", "good", "broken", "signal", "burst", "gone"]):
                case "good":
                    extra = f'  "extra-{number}": {{ targets: [{{ provider: steady-cohere, model: good }}] }}'
                    self.gateway.reload(self.random.randint(2, 5), extra if self.random.random() < 0.5 else "")
                case "broken":
                    self.gateway.write(self.random.choice(BROKEN))
                case "gone":
                    self.gateway.file.unlink(missing_ok=True)
                    self.gateway.signal(signal.SIGHUP)
                case kind:
                    for _ in range(1 if kind == "signal" else 50):
                        self.gateway.signal(signal.SIGHUP)
            self.reloads += 1
            await asyncio.sleep(self.random.uniform(0.1, 1.5))
        self.gateway.reload()
        for _ in range(100):
            metrics = await asyncio.to_thread(self.gateway.metrics)
            if total(metrics, "streamgate_config_last_reload_successful") == 1:
                return
            await asyncio.sleep(0.1)
        raise RuntimeError("the last configuration was not put in force")

    async def kill(self, over: asyncio.Event) -> None:
        while not over.is_set():
            await asyncio.sleep(self.random.uniform(2, 8))
            process = self.upstreams.all[self.random.choice(["hostile", "hostile", "faulty"])]
            process.kill()
            await asyncio.sleep(self.random.uniform(0, 1.5))
            await asyncio.to_thread(process.start)
            self.kills += 1


class Sink:
    """Where a log goes that is in trouble."""

    def __init__(self, kind: str) -> None:
        self.kind, self.read, self.over = kind, b"", threading.Event()
        if kind == "full":
            self.file = open("/dev/full", "wb")
            return
        self.reader, writer = os.pipe()
        # As little as there can be, so that it is full at once.
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
        self.file = os.fdopen(writer, "wb", buffering=0)
        if kind == "gone":
            os.close(self.reader)

    def begin(self) -> None:
        """The gateway has the other end."""
        self.file.close()
        if self.kind == "pausing":
            self.thread = threading.Thread(target=self.pause_and_read, daemon=True)
            self.thread.start()

    def pause_and_read(self) -> None:
        while not self.over.is_set():
            self.over.wait(1.3)
            end = time.monotonic() + 0.4
            while time.monotonic() < end:
                if not (piece := os.read(self.reader, 65536)):
                    return
                self.read += piece

    def end(self) -> str:
        """What came through, once the gateway has ended."""
        self.over.set()
        if self.kind == "pausing":
            self.thread.join()
        if self.kind in ("pausing", "unread"):
            while piece := os.read(self.reader, 65536):
                self.read += piece
            os.close(self.reader)
        # A pipe that nobody reads is full in the middle of a line.
        whole = self.read[: self.read.rfind(b"\n") + 1]
        return whole.decode()
