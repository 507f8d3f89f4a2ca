"""What callers sent and saw: an entry per request, and the longest silences. It judges nothing; that is for `checks`."""

import itertools
from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Entry:
    """One request, from its caller's side."""

    id: str
    marker: str
    dialect: str = ""
    model: str = ""
    stream: bool = False
    # What its caller did: `read` to the end, `leave`, or a name of another conduct.
    conduct: str = "read"
    # What the answer must come to: `complete`, `broken`, or `either`.
    verdict: str = "either"
    # The only text that a complete answer may have; any answer has the beginning of it. `None`: not known.
    text: str | None = None
    # Whether the gateway has a record of it: `one`, `maybe` or `none`.
    record: str = "maybe"
    status: int | None = None
    # How the answer ended: `complete`, `failed` (an error in its place or within it), `cut`, `silent` (an end that
    # does not say whether it is one), or `left` when its caller did not wait.
    end: str = "left"
    silence: float = 0.0
    quiet: bool = False  # a control stream with pauses longer than any silence that is allowed
    problems: list[str] = field(default_factory=list)


@dataclass
class Ledger:
    """All requests of one process of the gateway."""

    name: str
    numbers: itertools.count = field(default_factory=itertools.count)
    entries: dict[str, Entry] = field(default_factory=dict)
    counts: Counter = field(default_factory=Counter)
    # The gateway is being stopped: connections may end without an answer.
    stopping: bool = False
    quiet: bool = False  # there were quiet control streams
    # The longest silence of a control stream, and the longest wait for `/healthz`, in seconds.
    silence: float = 0.0
    health: float = 0.0
    # The longest that these callers themselves were held up, in seconds: the machine's doing, and not the gateway's.
    lag: float = 0.0
    problems: list[str] = field(default_factory=list)

    def enter(self, **what) -> Entry:
        number = next(self.numbers)
        entry = Entry(id=f"{self.name}-{number}", marker=f"k{self.name}x{number}", **what)
        self.entries[entry.id] = entry
        return entry
