"""What a scenario finds, and the wait for what it expects."""

import asyncio

from cluster import elapsed


class Checks:
    def __init__(self, scenario: str):
        self.scenario, self.failed, self.passed = scenario, 0, 0

    def check(self, holds: bool, name: str, found: object = "") -> None:
        if holds:
            self.passed += 1
            print(f"ok      {self.scenario}: {name}", flush=True)
        else:
            self.failed += 1
            print(f"FAILED  {self.scenario}: {name}\n        {str(found)[:600]}", flush=True)

    def same(self, found: object, expected: object, name: str, more: object = "") -> None:
        shown = f"found {str(found)[-250:]}\n        expected {str(expected)[-250:]}\n        {str(more)[-250:]}"
        self.check(found == expected, name, shown)


async def until(holds, within: float) -> bool:
    """Waits until something holds; returns whether it does."""
    began = asyncio.get_running_loop().time()
    while not await holds():
        if elapsed(began) > within:
            return False
        await asyncio.sleep(0.05)
    return True
