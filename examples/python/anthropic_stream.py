"""The Anthropic SDK: the same gateway, the same model, another API.

    STREAMGATE_KEY=KEY python anthropic_stream.py "Hello"
"""

import os
import sys

import anthropic

client = anthropic.Anthropic(
    base_url=os.environ.get("STREAMGATE_URL", "http://127.0.0.1:8080"),
    api_key=os.environ["STREAMGATE_KEY"],
)
try:
    with client.messages.stream(
        model=os.environ.get("STREAMGATE_MODEL", "sim"),
        max_tokens=1000,
        messages=[{"role": "user", "content": " ".join(sys.argv[1:]) or "Hello"}],
    ) as stream:
        for text in stream.text_stream:
            print(text, end="", flush=True)
    print(f"\n({stream.get_final_message().usage.output_tokens} tokens)", file=sys.stderr)
except anthropic.APIError as error:
    sys.exit(f"\nthe answer is not complete: {error.message}")
