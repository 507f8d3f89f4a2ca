"""The OpenAI SDK: a stream, and an error that the SDK raises.

    STREAMGATE_KEY=KEY python openai_stream.py "Hello"
"""

import os
import sys

import openai

client = openai.OpenAI(
    base_url=os.environ.get("STREAMGATE_URL", "http://127.0.0.1:8080") + "/v1",
    api_key=os.environ["STREAMGATE_KEY"],
)
stream = client.chat.completions.create(
    model=os.environ.get("STREAMGATE_MODEL", "sim"),
    messages=[{"role": "user", "content": " ".join(sys.argv[1:]) or "Hello"}],
    stream=True,
    stream_options={"include_usage": True},
)
try:
    for chunk in stream:
        for choice in chunk.choices:
            print(choice.delta.content or "", end="", flush=True)
        if chunk.usage:
            print(f"\n({chunk.usage.completion_tokens} tokens)", file=sys.stderr)
except openai.APIError as error:
    # A stream that breaks ends here, never as if the answer were complete.
    sys.exit(f"\nthe answer is not complete: {error.message}")
