#!/usr/bin/env python3
"""Whether llama.cpp with a converted adapter answers as `ccoe serve` with the same expert.

  tests/bench/check_lora.py --model MODEL.gguf --data DATA --out check.json

Asks the first prompts of DATA/<domain>/dev.jsonl, greedily, and tells how many tokens are equal
before the first difference: with the adapter, and without it for comparison. The two sides quantise
activations differently, so an answer may part where two tokens are close.
"""

import argparse
import json
import pathlib
import sys
import tempfile

import six

CONTEXT_TOKENS = 1024


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    six.add_arguments(parser)
    parser.add_argument("--data", type=pathlib.Path, required=True,
                        help="folder of DOMAIN/dev.jsonl")
    parser.add_argument("--prompts", type=int, default=16, help="of each domain (default: 16)")
    parser.add_argument("--output-tokens", type=int, default=32, help="of each (default: 32)")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    rows = []
    with six.Setup(arguments) as setup, tempfile.TemporaryDirectory() as folder:
        domains = [domain for domain in six.DOMAINS if domain not in setup.standins]
        with six.stopping(setup.serve(folder, setup.experts, 256)) as server, \
                six.api.Client(server.listen) as client:
            streams = [{"domain": index, "prompts": prompts}
                       for index, prompts in enumerate(six.prompts(
                           client, domains, arguments.data, arguments.prompts, CONTEXT_TOKENS
                           - arguments.output_tokens))]
            ours = six.answer_streams(client, domains, streams,
                                      arguments.output_tokens)["answers"]
        for adapted in (True, False):
            with setup.llama() as llama:
                llama.load(models=[str(setup.model)] * len(domains),
                           loras=[setup.lora(domain) if adapted else None for domain in domains],
                           sequences=[1] * len(domains), one_context=True,
                           threads=arguments.threads, context_tokens=CONTEXT_TOKENS, mmap=True)
                theirs = llama.run(streams=streams,
                                   output_tokens=arguments.output_tokens)["answers"]
            for domain, mine, other in zip(domains, ours, theirs):
                equal = [six.common(*pair) for pair in zip(mine, other)]
                rows.append({"domain": domain, "adapter": adapted, "answers": len(equal),
                             "equal_answers": sum(n == arguments.output_tokens for n in equal),
                             "equal_tokens": sum(equal) / len(equal) / arguments.output_tokens})
    for row in rows:
        print(f"{row['domain']}, {'with' if row['adapter'] else 'without'} adapter: "
              f"{row['equal_answers']} of {row['answers']} answers equal, "
              f"{100 * row['equal_tokens']:.0f} % of tokens before the first difference")
    arguments.out.write_text(json.dumps({"rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
