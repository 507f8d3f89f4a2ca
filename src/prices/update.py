"""Writes src/prices/catalog.json from the package `genai-prices` (PyPI, MIT).

    python3 -m venv /tmp/prices && /tmp/prices/bin/pip install genai-prices==VERSION
    /tmp/prices/bin/python src/prices/update.py DATE        # the date of that version, such as 2026-11-25

Review the difference before you commit it: one line per model. Rates are decimal texts in dollars per million tokens.
What cannot be carried over is printed, and left out: a model without a rate is unpriced, never free.
"""

import json
import re
import sys
from datetime import datetime, timezone
from decimal import ROUND_HALF_UP, Decimal
from importlib.metadata import version
from pathlib import Path

from genai_prices.data import providers

# The providers of our presets.
PROVIDERS = """anthropic aws azure cerebras cohere deepseek fireworks google groq mistral openai openrouter perplexity
together x-ai""".split()
CLASSES = {
    "input_mtok": "input",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write",
    "output_mtok": "output",
    "output_reasoning_mtok": "reasoning",
}
SERVICE_TIERS = {"flex", "priority", "fast"}
left_out = []


def literal(text: str) -> str | None:
    """The text of a pattern that has no special characters but escaped ones."""
    plain = re.sub(r"\\([.\-])", r"\1", text)
    return None if re.search(r"[\\^$*+?()\[\]{}|]", plain) else plain


def clause(match) -> list | None:
    """A clause as an array: its kind, and its text or clauses. `None`: it cannot be carried over."""
    kind = type(match).__name__
    simple = {"ClauseEquals": "equals", "ClauseStartsWith": "starts_with", "ClauseEndsWith": "ends_with", "ClauseContains": "contains"}
    if kind in simple:
        return [simple[kind], getattr(match, simple[kind])]
    if kind in ("ClauseOr", "ClauseAnd"):
        name = {"ClauseOr": "or_", "ClauseAnd": "and_"}[kind]
        parts = [clause(part) for part in getattr(match, name)]
        if name == "and_" and None in parts:
            return None
        return ["any" if name == "or_" else "all", [part for part in parts if part]]
    if kind == "ClauseRegex":
        dated = re.fullmatch(r"\^(.*?)(\[-@\])?(\\d\{8\}|\\d\{4\}-\\d\{2\}-\\d\{2\}|\\d)\$?", match.regex)
        prefix = literal(dated[1]) if dated else None
        if prefix and dated[2]:
            return ["any", [["dated", prefix + separator] for separator in "-@"]]
        if prefix:
            return ["dated", prefix]
        if "[tT][tT][sS]" in match.regex:
            return ["none", [["ends_with", "-tts"], ["contains", "-tts-"], ["ends_with", "-TTS"], ["contains", "-TTS-"]]]
    left_out.append(f"a match: {match}")
    return None


def rate(value: Decimal) -> str:
    """A rate with at most six digits after the point: micro-dollars per million tokens."""
    rounded = value.quantize(Decimal("0.000001"), ROUND_HALF_UP).normalize()
    return f"{rounded:f}"


def rates(price) -> dict:
    """The rates of a price, and those above thresholds of input tokens."""
    found, tiers = {}, {}
    for field, name in CLASSES.items():
        value = getattr(price, field, None)
        if value is None:
            continue
        if hasattr(value, "base"):
            for tier in value.tiers:
                tiers.setdefault(tier.start, {})[name] = rate(tier.price)
            value = value.base
        found[name] = rate(value)
    if tiers:
        found["tiers"] = [{"over": start, **above} for start, above in sorted(tiers.items())]
    return found


def constrained(constraint) -> dict:
    """The time at which a price holds, in UTC: from a Unix second on, or between two seconds of each day."""
    if constraint is None:
        return {}
    if hasattr(constraint, "start_date"):
        day = constraint.start_date
        return {"from": int(datetime(day.year, day.month, day.day, tzinfo=timezone.utc).timestamp())}
    return {"hours": [at.hour * 3600 + at.minute * 60 for at in (constraint.start_time, constraint.end_time)]}


def prices(model) -> list[dict]:
    """The prices of a model; the last one that holds at a time counts."""
    given = model.prices if isinstance(model.prices, list) else [model.prices]
    found = []
    for price in given:
        held = constrained(getattr(price, "constraint", None))
        found.append({**held, **rates(getattr(price, "prices", price))})
    for variant in model.price_variants or []:
        tier = variant.when.get("service_tier") or variant.when.get("processing")
        if len(variant.when) != 1 or tier not in SERVICE_TIERS | {"batch"}:
            if tier != "default":
                left_out.append(f"{model.id}: a price {variant.when}")
            continue
        found.append({"service_tier": tier, **constrained(variant.constraint), **rates(variant.prices)})
    found = [price for price in found if "input" in price or "output" in price]
    # It is their name that says so.
    return found or ([{"input": "0", "output": "0"}] if model.id.endswith(":free") else [])


def catalog() -> dict:
    found = {}
    for provider in sorted(providers, key=lambda provider: provider.id):
        if provider.id not in PROVIDERS:
            continue
        models = []
        # In the order of the source: the first match counts.
        for model in provider.models:
            match, priced = clause(model.match), prices(model)
            if match and priced:
                models.append({"id": model.id, "match": match, "prices": priced})
            else:
                left_out.append(f"{provider.id}/{model.id}: no rates per token")
        others = [other for other in provider.fallback_model_providers or [] if other in PROVIDERS]
        found[provider.id] = {"fallback": others, "models": models}
    return found


def main() -> None:
    head = {"source": f"genai-prices {version('genai-prices')}", "licence": "MIT, Copyright (c) Pydantic Services Inc.", "date": sys.argv[1]}
    lines = [json.dumps(head)[:-1] + ', "providers": {']
    found = catalog()
    for at, (name, provider) in enumerate(found.items()):
        lines.append(f"{json.dumps(name)}: {{\"fallback\": {json.dumps(provider['fallback'])}, \"models\": [")
        lines.append(",\n".join(json.dumps(model, separators=(",", ":")) for model in provider["models"]))
        lines.append("]}" + ("," if at + 1 < len(found) else ""))
    lines.append("}}")
    Path(__file__).with_name("catalog.json").write_text("\n".join(lines) + "\n")
    print("left out:", *sorted(set(left_out)), sep="\n  ")


main()
