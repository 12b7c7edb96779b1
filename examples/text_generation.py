"""Writes text, one character at a time: each is sampled from the model's answer to the one before.

    python examples/text_generation.py charrnn.onnx vocab.json --prompt "The origin of " --length 300

A character LSTM with inputs id, h, c, such as ml5's charRNN (MIT, github.com/ml5js/ml5-data-and-models).
vocab.json maps characters to ids, as in that repository.
"""

import argparse
import json
import sys
from collections.abc import Iterator

import numpy as np

import gateinfer as gi


def generate(
    model: gi.Model, vocabulary: dict[str, int], prompt: str, length: int, heat: float, seed: int
) -> Iterator[str]:
    """`length` characters after the prompt, as they come."""
    characters = {index: character for character, index in vocabulary.items()}
    rng = np.random.default_rng(seed)
    stream = model.stream()
    for character in prompt:
        logits = stream(np.array([vocabulary[character]]))
    for _ in range(length):
        scores = logits.ravel().astype(np.float64) / heat
        odds = np.exp(scores - scores.max())
        index = int(rng.choice(len(odds), p=odds / odds.sum()))
        yield characters.get(index, "?")
        logits = stream(np.array([index]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("vocab", help="JSON object of character to id")
    parser.add_argument("--prompt", default="The ")
    parser.add_argument("--length", type=int, default=300)
    parser.add_argument("--heat", type=float, default=0.5, help="0.1 is dull, 1 is wild")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with open(args.vocab) as file:
        vocabulary = json.load(file)
    unknown = sorted(set(args.prompt) - vocabulary.keys())
    if unknown or not args.prompt:
        parser.error(f"the prompt needs at least one character, all of them in {args.vocab}; unknown: {unknown}")
    sys.stdout.write(args.prompt)
    for character in generate(gi.load(args.model), vocabulary, args.prompt, args.length, args.heat, args.seed):
        sys.stdout.write(character)
        sys.stdout.flush()
    print()


if __name__ == "__main__":
    main()
