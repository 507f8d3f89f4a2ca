"""Model names as programs of the scripted upstream, and the texts that they come to.

Shared by the upstream, which plays them, and by the callers, which know from them what an answer must be. A name is words
joined with dashes, such as `good-n20-i10`; words that are not known are skipped.
"""

import re
from dataclasses import dataclass

# Behaviours after which an answer is whole, and every token of it must arrive.
GOOD = [
    "good",
    "bytes",  # each byte is a write of its own
    "pieces",  # cut anywhere, with pauses
    "later",  # the response head comes after 2 s
    "linger",  # the body ends some time after the answer
    "comments",  # comments between events, where the framing has them
]
# Behaviours after which no answer may look complete.
BAD = [
    "reset",  # a TCP reset after `a` tokens
    "close",  # the body ends as HTTP ends one after `a` tokens
    "drop",  # the connection is closed in the middle of a chunk
    "stall",  # silence after `a` tokens
    "garbage",  # bytes of no framing after `a` tokens, and the end of the connection
    "oversize",  # an event that is larger than `stream.max_event`
    "longer",  # a content-length that is larger than the body
    "shorter",  # a content-length that is smaller than the body
    "beats",  # comments without an end after `a` tokens
    "endless",  # tokens without an end after `a` of them
    "error",  # the vendor's error within the stream after `a` tokens
    "e500", "e503", "e429", "e404", "e400",
    "refuse",  # the connection is closed without an answer
    "hang",  # no answer
    "nohttp",  # bytes that are no HTTP
    "page",  # a page of HTML with status 200
    "redirect",
    "zip",  # a body that says it is gzip and is not
    "headers",  # a response head without an end
    "chunks",  # a chunk size that is no number
]
TEXT = re.compile(rb"marker=(\w+)")


@dataclass(frozen=True)
class Program:
    behaviour: str = "good"
    tokens: int = 20
    interval: float = 0.0
    after: int = 5
    padding: int = 0

    @classmethod
    def parse(cls, model: str) -> "Program":
        values: dict = {}
        for word in re.split(r"[-/]", model):
            if word in GOOD or word in BAD:
                values["behaviour"] = word
            elif found := re.fullmatch(r"([niaz])(\d+)", word):
                name, number = found[1], int(found[2])
                values |= {"n": {"tokens": number}, "i": {"interval": number / 1000}, "a": {"after": number}, "z": {"padding": number}}[name]
        return cls(**values)

    def token(self, marker: str, index: int) -> str:
        return f"{marker}.{index}{'x' * self.padding} "

    def text(self, marker: str) -> str:
        return "".join(self.token(marker, index) for index in range(self.tokens))


def prompt(marker: str, size: int) -> str:
    """A prompt from which the upstream learns whose answer it writes."""
    return f"marker={marker} {'lorem ' * (size // 6)}"
