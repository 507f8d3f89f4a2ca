"""Makes a tiny model of the llama architecture, as a GGUF file: random weights from a fixed seed, except
for the output, which makes each token announce the next one. So what it says is known in advance, and
depends on nothing but the last character of the prompt:

    a letter    the letters after it, up to z, and the end of the answer
    a digit     the digits after it, é, 漢 and 😀, 0 again, and so on for ever
    T           a call of a tool
    R           reasoning, and then text

Temperature and seed of the sampling do not matter: the next token is that much likelier than all others.
"""

import sys
from pathlib import Path

import numpy
from gguf import GGUFWriter, TokenType

LETTERS = "abcdefghijklmnopqrstuvwxyz"
CYCLE = "0123456789é漢😀"
# As the template below shows calls and reasoning, which is where the server learns how to read them.
# In a vocabulary, a space is written so: ▁.
CALL = ["T", "<tool_call>", '{"name":▁', '"look",▁"argu', 'ments":▁{"', 'place":▁', '"Pa', "ris,▁漢", '"}}', "</tool_call>"]
CALLED = ("look", {"place": "Paris, 漢"})
THOUGHT = ["R", "<think>", "Let", "▁me", "▁see", "</think>", "It", "▁is", "▁four"]
REASONED = ("Let me see", "It is four")
CONTEXT = 1 << 17

WIDTH, HEADS, INNER = 256, 8, 64  # narrow heads: a context takes little memory
UNKNOWN, START, END = "<unk>", "<s>", "</s>"
# What people say is all there is between two answers, so that its last character is the prompt's last.
TEMPLATE = """
{%- if tools %}<tools>
{%- for tool in tools %}
{{ tool | tojson }}
{%- endfor %}
</tools>
{% endif %}
{%- for message in messages %}
{%- if message.role == "assistant" %}
{%- if message.reasoning_content %}<think>{{ message.reasoning_content }}</think>{% endif %}
{%- if message.content %}{{ message.content }}{% endif %}
{%- for call in message.tool_calls or [] %}<tool_call>{"name": {{ call.function.name | tojson }}, "arguments": {{ call.function.arguments | tojson }}}</tool_call>
{%- endfor %}</s>
{%- elif message.role == "tool" %}<tool_response>{{ message.content }}</tool_response>
{%- else %}{{ message.content }}
{%- endif %}
{%- endfor %}"""


def text_after(last: str, length: int) -> str:
    """What the model answers to a prompt that ends so, if it may say that much."""
    if last in LETTERS:
        return LETTERS[LETTERS.index(last) + 1:][:length]
    start = CYCLE.index(last) + 1
    return (CYCLE * (length // len(CYCLE) + 2))[start:start + length]


def make(path: Path) -> None:
    special = [(UNKNOWN, TokenType.UNKNOWN), (START, TokenType.CONTROL), (END, TokenType.CONTROL)]
    octets = [(f"<0x{octet:02X}>", TokenType.BYTE) for octet in range(256)]
    pieces = [(piece, TokenType.NORMAL) for piece in ["▁", *LETTERS, *CYCLE, *CALL, *THOUGHT]]
    tokens = special + octets + pieces
    number = {token: place for place, (token, _) in enumerate(tokens)}
    following = [*zip(CYCLE, CYCLE[1:] + CYCLE[:1])]
    for chain in (list(LETTERS), CALL, THOUGHT):
        following += zip(chain, chain[1:] + [END])

    random = numpy.random.default_rng(7)

    def weights(*shape: int, scale: float = 0.01) -> numpy.ndarray:
        return (random.standard_normal(shape) * scale).astype(numpy.float32)

    embedding = weights(len(tokens), WIDTH, scale=1.0)
    output = weights(len(tokens), WIDTH)
    for token, after in following:
        # Random directions of this many dimensions are nearly at right angles to one another.
        row = embedding[number[token]]
        output[number[after]] += row / numpy.linalg.norm(row) * 4

    file = GGUFWriter(path, "llama")
    file.add_name("tiny")
    file.add_context_length(CONTEXT)
    file.add_embedding_length(WIDTH)
    file.add_block_count(1)
    file.add_feed_forward_length(INNER)
    file.add_head_count(HEADS)
    file.add_head_count_kv(1)
    file.add_layer_norm_rms_eps(1e-5)
    file.add_rope_dimension_count(WIDTH // HEADS)
    file.add_vocab_size(len(tokens))
    file.add_tokenizer_model("llama")
    file.add_token_list([token for token, _ in tokens])
    file.add_token_scores([0.0] * len(tokens))
    file.add_token_types([kind for _, kind in tokens])
    file.add_unk_token_id(number[UNKNOWN])
    file.add_bos_token_id(number[START])
    file.add_eos_token_id(number[END])
    file.add_add_bos_token(True)
    file.add_add_space_prefix(False)
    file.add_chat_template(TEMPLATE)
    for name, tensor in {
        "token_embd": embedding,
        "output": output,
        "output_norm": numpy.ones(WIDTH, numpy.float32),
        "blk.0.attn_norm": numpy.ones(WIDTH, numpy.float32),
        "blk.0.attn_q": weights(WIDTH, WIDTH),
        "blk.0.attn_k": weights(WIDTH // HEADS, WIDTH),
        "blk.0.attn_v": weights(WIDTH // HEADS, WIDTH),
        "blk.0.attn_output": weights(WIDTH, WIDTH),
        "blk.0.ffn_norm": numpy.ones(WIDTH, numpy.float32),
        "blk.0.ffn_gate": weights(INNER, WIDTH),
        "blk.0.ffn_up": weights(INNER, WIDTH),
        "blk.0.ffn_down": weights(WIDTH, INNER),
    }.items():
        file.add_tensor(f"{name}.weight", tensor)
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()


if __name__ == "__main__":
    make(Path(sys.argv[1]))
