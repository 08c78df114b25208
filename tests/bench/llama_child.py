"""llama.cpp as a child (child.py), through the low-level Python bindings of the pinned package.

Sampling is an argmax in numpy; everything else is the library's own compiled code.
"""

import ctypes
import sys
import time

import child
import numpy as np
from llama_cpp import llama_cpp as llama

MICRO_BATCH = 512  # llama.cpp's default
LOG_LEVEL_ERROR = 4  # ggml_log_level


@llama.llama_log_callback
def _log(level, text, _):
    if level == LOG_LEVEL_ERROR:
        sys.stderr.write(text.decode(errors="replace"))


def _check(value, what):
    if not value:
        raise RuntimeError(f"llama.cpp cannot open {what}")
    return value


def _load_model(path, mmap):
    params = llama.llama_model_default_params()
    params.load_mode = llama.LLAMA_LOAD_MODE_MMAP if mmap else llama.LLAMA_LOAD_MODE_NONE
    return _check(llama.llama_model_load_from_file(path.encode(), params), path)


class Context:
    """A context: its KV cache, sequences and batch."""

    def __init__(self, model, threads, sequences, context_tokens):
        params = llama.llama_context_default_params()
        params.n_ctx = params.n_batch = sequences * context_tokens
        params.n_ubatch = MICRO_BATCH
        params.n_seq_max = sequences
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_ENABLED  # docs/bench.md: the faster
        self.handle = _check(llama.llama_init_from_model(model, params), "a context")
        self.free = list(range(sequences))
        self._batch = llama.llama_batch_init(params.n_batch, 0, 1)
        self._vocab = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
        self._adapter = None

    def adapt(self, adapter):
        """From now on the adapter counts; None: the base alone."""
        if adapter != self._adapter:
            llama.llama_set_adapters_lora(
                self.handle, (llama.llama_adapter_lora_p_ctypes * 1)(adapter),
                1 if adapter else 0, (ctypes.c_float * 1)(1.0))
            self._adapter = adapter

    def decode(self, rows):
        """`rows` has (sequence, position of the first token, tokens); returns the likeliest next
        token of each."""
        batch, count, last = self._batch, 0, []
        for sequence, position, tokens in rows:
            for index, token in enumerate(tokens):
                batch.token[count] = token
                batch.pos[count] = position + index
                batch.n_seq_id[count] = 1
                batch.seq_id[count][0] = sequence
                batch.logits[count] = index == len(tokens) - 1
                count += 1
            last.append(count - 1)
        batch.n_tokens = count
        if llama.llama_decode(self.handle, batch) != 0:
            raise RuntimeError("llama_decode failed")
        return [int(np.ctypeslib.as_array(llama.llama_get_logits_ith(self.handle, row),
                                          (self._vocab,)).argmax()) for row in last]

    def forget(self, sequence):
        llama.llama_memory_seq_rm(llama.llama_get_memory(self.handle), sequence, -1, -1)


class Stream:
    """Sends its prompts one after the other, in a sequence of its domain's context."""

    def __init__(self, context, prompts, output_tokens):
        self.answers = []
        self.sequence = context.free.pop()
        self._context = context
        self._prompts = prompts
        self._output_tokens = output_tokens
        self._position = 0

    def done(self):
        return len(self.answers) == len(self._prompts) and self._answered()

    def _answered(self):
        return bool(self.answers) and len(self.answers[-1]) == self._output_tokens

    def row(self):
        if not self.answers or self._answered():
            self._context.forget(self.sequence)
            self._position = 0
            tokens = self._prompts[len(self.answers)]
            self.answers.append([])
        else:
            tokens = self.answers[-1][-1:]
        position = self._position
        self._position += len(tokens)
        return self.sequence, position, tokens

    def add(self, token):
        self.answers[-1].append(token)


class Peer:
    """Domains, each with its model and perhaps an adapter.

    models: a path for each domain; a path that comes again is the same model.
    loras: an adapter or null for each domain.
    sequences: how many each domain has at a time.
    one_context: whether all domains share one context, in which adapters are changed between
        batches; else each has its own.
    threads, context_tokens (of a sequence), mmap: as in llama.cpp.
    """

    def __init__(self, models, loras, sequences, one_context, threads, context_tokens, mmap):
        llama.llama_log_set(_log, ctypes.c_void_p())
        llama.llama_backend_init()
        loaded = {path: _load_model(path, mmap) for path in set(models)}
        self._adapters = [
            path and _check(llama.llama_adapter_lora_init(loaded[model], path.encode()), path)
            for model, path in zip(models, loras)]
        if one_context:
            shared = Context(loaded[models[0]], threads, sum(sequences), context_tokens)
            self._contexts = [shared] * len(models)
        else:
            self._contexts = [Context(loaded[path], threads, count, context_tokens)
                              for path, count in zip(models, sequences)]

    def run(self, streams, output_tokens):
        """`streams` has {"domain": index, "prompts": [token ids]}. The domains decode in turn, each
        all its streams in one batch. Returns the answers of each stream, and the seconds."""
        domains = [[] for _ in self._contexts]
        all_streams = []
        for spec in streams:
            context = self._contexts[spec["domain"]]
            all_streams.append(Stream(context, spec["prompts"], output_tokens))
            domains[spec["domain"]].append(all_streams[-1])
        begin = time.monotonic()
        while any(not stream.done() for stream in all_streams):
            for context, adapter, members in zip(self._contexts, self._adapters, domains):
                active = [stream for stream in members if not stream.done()]
                if active:
                    context.adapt(adapter)
                    tokens = context.decode([stream.row() for stream in active])
                    for stream, token in zip(active, tokens):
                        stream.add(token)
        seconds = time.monotonic() - begin
        for context, members in zip(self._contexts, domains):
            for stream in members:
                context.forget(stream.sequence)
                context.free.append(stream.sequence)
        return {"seconds": seconds, "answers": [stream.answers for stream in all_streams]}


if __name__ == "__main__":
    child.serve(Peer)
