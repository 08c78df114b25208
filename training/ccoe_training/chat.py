"""ChatML as the model's own template renders it."""

from dataclasses import dataclass

import jinja2

from .tokenizer import ReferenceTokenizer

IM_START = "<|im_start|>"
IM_END = "<|im_end|>"


@dataclass(frozen=True)
class ChatMl:
    """Turns messages into ids. The text between two control tokens is encoded as one string."""

    tokenizer: ReferenceTokenizer
    default_system: str

    @classmethod
    def from_template(cls, tokenizer: ReferenceTokenizer, template: str) -> "ChatMl":
        """Reads the default system message out of `template`; refuses one that is not ChatML."""
        marker = "probe"
        rendered = jinja2.Template(template, keep_trailing_newline=True).render(
            messages=[{"role": "user", "content": marker}], add_generation_prompt=True
        )
        head, _, tail = rendered.partition(f"{IM_START}user\n{marker}{IM_END}\n")
        prefix, suffix = f"{IM_START}system\n", f"{IM_END}\n"
        if tail != f"{IM_START}assistant\n" or not head.startswith(prefix):
            raise ValueError("the chat template is not ChatML with a default system message")
        return cls(tokenizer, head[len(prefix) : -len(suffix)])

    def prompt_ids(self, messages: list[dict[str, str]]) -> list[int]:
        """The ids of a conversation, up to where the assistant begins to speak."""
        if messages[0]["role"] != "system":
            messages = [{"role": "system", "content": self.default_system}, *messages]
        ids: list[int] = []
        for message in messages:
            ids.append(self.tokenizer.control[IM_START])
            ids += self.tokenizer.encode(f"{message['role']}\n{message['content']}")
            ids.append(self.tokenizer.control[IM_END])
            ids += self.tokenizer.encode("\n")
        ids.append(self.tokenizer.control[IM_START])
        return ids + self.tokenizer.encode("assistant\n")

    def user_ids(self, prompt: str) -> list[int]:
        return self.prompt_ids([{"role": "user", "content": prompt}])

    def response_ids(self, response: str) -> list[int]:
        """What the assistant says, with the control token that closes it."""
        return self.tokenizer.encode(response) + [self.tokenizer.control[IM_END]]
