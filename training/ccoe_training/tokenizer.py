"""The reference tokenizer of a GGUF file, built from its own vocabulary and merges.

transformers' conversion of SmolLM's GGUF loses the digit split and may swap special tokens, so the
pre-tokenizer is spelled out here: Digits(individual_digits=True), then ByteLevel.
"""

from dataclasses import dataclass

from gguf import GGUFReader
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

CONTROL_TOKEN_TYPE = 3

LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2_SPLIT = LLAMA3_SPLIT.replace(r"\p{N}{1,3}", r"\p{N}")


def pre_tokenizer(name: str) -> pre_tokenizers.PreTokenizer:
    """The pre-tokenizer that GGUF calls `name` (tokenizer.ggml.pre)."""
    if name == "smollm":
        return pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )
    split = {"llama-bpe": LLAMA3_SPLIT, "qwen2": QWEN2_SPLIT}.get(name)
    if split is None:
        raise ValueError(f"pre-tokenizer {name!r} is not known: use smollm, llama-bpe or qwen2")
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(split), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


@dataclass(frozen=True)
class ReferenceTokenizer:
    """`text` never yields a control token; control tokens are looked up by name in `control`."""

    text: Tokenizer
    control: dict[str, int]
    vocab: list[str]

    @classmethod
    def from_gguf(cls, reader: GGUFReader) -> "ReferenceTokenizer":
        def field(name: str):
            return reader.fields[f"tokenizer.ggml.{name}"].contents()

        if field("model") != "gpt2":
            raise ValueError("only byte-level BPE vocabularies (tokenizer.ggml.model gpt2)")
        vocab = field("tokens")
        merges = [tuple(merge.split(" ", 1)) for merge in field("merges")]
        bpe = models.BPE(vocab={token: i for i, token in enumerate(vocab)}, merges=merges)
        text = Tokenizer(bpe)
        text.pre_tokenizer = pre_tokenizer(field("pre"))
        text.decoder = decoders.ByteLevel()
        control = {
            vocab[i]: i for i, kind in enumerate(field("token_type")) if kind == CONTROL_TOKEN_TYPE
        }
        return cls(text=text, control=control, vocab=vocab)

    def encode(self, text: str) -> list[int]:
        """Ordinary text to ids: "<|im_start|>" in it is text, not the control token."""
        return self.text.encode(text, add_special_tokens=False).ids

    def decode(self, ids: list[int]) -> str:
        control = set(self.control.values())
        return self.text.decode([i for i in ids if i not in control], skip_special_tokens=False)
