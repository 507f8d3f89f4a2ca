"""The scenarios: what the upstream plays, and what must have come of it. They know no dialect and no agent by name."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agents import Agent
from ask import Ask
from scripted_upstream import Broken, Endless, Refused, Script, Seen, Silence, Step, Upstream, side_answer
from vendor_answers import Text

FILE = "greeting.txt"
CONTENT = 'Grüße, 世界! "quoted", back\\slash\n\ttabbed ${HOME} `ticks`\nlast line\n'
PROMPT = f"Please write the file {FILE} with a greeting, then note in shell.txt that you are done."
NOTED = "noted by the shell"
FINAL = "Both files are written; the word is zanzibar."
LAST = "zanzibar"  # shows that the answer arrived to its end
BROKEN = "the model fell over in quux"
REFUSED = "the model failed in quux"
QUUX = "quux"
RETRY_AFTER = 3
TIME = 420  # seconds, for agents that retry with growing pauses


@dataclass
class Run:
    """What is known of a run once the agent has ended."""

    agent: Agent
    upstream: Upstream
    work: Path
    status: int | None  # None: it did not end in time
    output: str
    unauthorized: int  # requests with a wrong key
    interrupted: float = 0  # when it was


class Failure(Exception):
    """A scenario's expectation that does not hold."""


def must(holds: object, otherwise: str) -> None:
    if not holds:
        raise Failure(otherwise)


def task_steps(agent: Agent, work: Path, ask: Ask) -> list[Step]:
    """Write a file, run a command, say that it is done: which of these follows from the results in the request."""
    done = len(ask.results)
    if not agent.write or done == 0:
        return list(agent.writing(ask, str(work / FILE), CONTENT)) + ([] if agent.write else [Text(f"\n{FINAL}\n")])
    if done == 1:
        return list(agent.running(ask, f"echo {NOTED} > shell.txt"))
    return [Text(FINAL)]


def done(run: Run) -> None:
    must(run.status == 0, f"exit status {run.status}")
    file = run.work / FILE
    must(file.exists(), f"{FILE} was not written")
    must(file.read_text() == CONTENT, f"{FILE} holds {file.read_text()!r}")
    if run.agent.shell:
        shell = run.work / "shell.txt"
        must(shell.exists() and shell.read_text() == f"{NOTED}\n", "the command did not run")
    must(LAST in run.output, "the final text is not in the output")


def gave_up(run: Run, said: str) -> None:
    must(run.status is not None, "it did not end")
    must(len(run.upstream.main()) <= run.agent.most_errors, f"{len(run.upstream.main())} requests")
    must(re.search(said, run.output), "the error's message is not in the output")
    must(LAST not in run.output, "it says that it is done")


def check_refused(run: Run) -> None:
    # Not 503, after which Qwen Code waits for a minute and longer, ten times over.
    gave_up(run, QUUX)


def check_broken(run: Run) -> None:
    # Gemini CLI only reports that the stream broke.
    gave_up(run, f"{QUUX}|(?i:error)")


@dataclass(frozen=True)
class Scenario:
    name: str
    steps: Callable[[list[Seen], Callable[[], list[Step]]], list[Step]]  # of the turns before, and of the task
    check: Callable[[Run], None]
    wrong_key: bool = False
    interrupt: bool = False

    def script(self, agent: Agent, work: Path) -> Script:
        def play(ask: Ask, before: list[Seen]) -> tuple[bool, list[Step]]:
            if not agent.is_main(ask):
                return False, side_answer(ask)
            turns = [seen for seen in before if seen.main]
            return True, self.steps(turns, lambda: task_steps(agent, work, ask))

        return play


def limited(turns: list[Seen], task: Callable[[], list[Step]]) -> list[Step]:
    """429 until the time that it names is over."""
    if not turns or time.monotonic() < turns[0].at + RETRY_AFTER:
        left = RETRY_AFTER if not turns else max(1, round(turns[0].at + RETRY_AFTER - time.monotonic()))
        return [Refused(429, "too many requests", (("retry-after", str(left)),))]
    return task()


def check_limited(run: Run) -> None:
    done(run)
    refused = [seen for seen in run.upstream.main() if seen.status == 429]
    must(1 <= len(refused) <= 6, f"{len(refused)} requests were refused")


def check_interrupted(run: Run) -> None:
    must(run.interrupted, f"it was never in mid-stream; exit status {run.status}")
    must(run.status is not None, "it did not end after the interrupt")
    must(run.upstream.main()[0].hung_up.wait(15), "the upstream was not hung up")
    late = [seen for seen in run.upstream.main() if seen.at > run.interrupted]
    must(not late, f"{len(late)} requests after the interrupt")


def check_wrong_key(run: Run) -> None:
    must(run.status is not None, "it did not end")
    must(run.status != 0 or not run.agent.exit_status, "exit status 0")
    must(not run.upstream.seen, "a request reached the upstream")
    must(1 <= run.unauthorized <= run.agent.most_unauthorized, f"{run.unauthorized} requests with the wrong key")
    must(re.search(r"Streamgate key|401|nauthorized|uthenticat|nvalid.{0,10}key", run.output), "no word of the key in the output")


SCENARIOS = {scenario.name: scenario for scenario in (
    Scenario("task", lambda turns, task: task(), done),
    Scenario("cancel", lambda turns, task: [Endless()], check_interrupted, interrupt=True),
    Scenario("429", limited, check_limited),
    Scenario("silence", lambda turns, task: task() if turns else [Text("I think. "), Silence(20), *task()], done),
    Scenario("error", lambda turns, task: [Refused(500, REFUSED)], check_refused),
    Scenario("broken", lambda turns, task: [Text("I begin. "), Broken(BROKEN)], check_broken),
    Scenario("key", lambda turns, task: task(), check_wrong_key, wrong_key=True),
)}


def finish(process: subprocess.Popen, scenario: Scenario, upstream: Upstream) -> tuple[int | None, float]:
    """Waits for the agent, interrupting it in mid-stream where the scenario does; and when that was."""
    interrupted = 0.0
    until = time.monotonic() + TIME
    while time.monotonic() < until:
        turns = upstream.main()
        if scenario.interrupt and not interrupted and turns and turns[0].written >= 15:
            # To all of its processes, as a terminal sends it.
            os.killpg(process.pid, signal.SIGINT)
            interrupted = time.monotonic()
            until = interrupted + 30
        try:
            return process.wait(0.1), interrupted
        except subprocess.TimeoutExpired:
            continue
    return None, interrupted
