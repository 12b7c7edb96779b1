"""How is that word pronounced? A GRU reads the letters, another one writes phonemes and hears each of its own answers.

    python examples/grapheme_to_phoneme.py checkpoint20.npz hello gateway

The weights (Apache-2.0) are g2p_en/checkpoint20.npz of the package g2p-en: plain NumPy arrays in PyTorch's gate order.
"""

import argparse

import numpy as np

import gateinfer as gi

LETTERS = ["<pad>", "<unk>", "</s>", *"abcdefghijklmnopqrstuvwxyz"]
PHONEMES = (
    "<pad> <unk> <s> </s> AA0 AA1 AA2 AE0 AE1 AE2 AH0 AH1 AH2 AO0 AO1 AO2 AW0 AW1 AW2 AY0 AY1 AY2 B CH D DH EH0 EH1 "
    "EH2 ER0 ER1 ER2 EY0 EY1 EY2 F G HH IH0 IH1 IH2 IY0 IY1 IY2 JH K L M N NG OW0 OW1 OW2 OY0 OY1 OY2 P R S SH T TH "
    "UH0 UH1 UH2 UW UW0 UW1 UW2 V W Y Z ZH"
).split()
LONGEST = 20


def build(weights: dict[str, np.ndarray]) -> tuple[gi.Model, gi.Model]:
    """Encoder: letters to a state. Decoder: one phoneme and the state to scores of the next one."""
    encoder = gi.Sequential([gi.layers.Embedding(weights["enc_emb"]), gi.layers.GRU(weights, prefix="enc_")])
    decoder = [gi.layers.Embedding(weights["dec_emb"]), gi.layers.GRU(weights, prefix="dec_")]
    head = gi.layers.Dense(weights["fc_w"], weights["fc_b"])
    return encoder, gi.Sequential([*decoder, head])


def pronounce(models: tuple[gi.Model, gi.Model], word: str) -> list[str]:
    """The phonemes of one word of letters a to z."""
    encoder, decoder = (model.stream() for model in models)
    letters = [LETTERS.index(c) if c in LETTERS else 1 for c in word.lower()] + [LETTERS.index("</s>")]
    encoder(np.array([letters]))
    (name,), (target,) = encoder.state, decoder.state
    decoder.state[target] = encoder.state[name]
    spoken, last = [], PHONEMES.index("<s>")
    for _ in range(LONGEST):
        last = int(decoder(np.array([[last]])).argmax())
        if PHONEMES[last] == "</s>":
            break
        spoken.append(PHONEMES[last])
    return spoken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights")
    parser.add_argument("words", nargs="+")
    args = parser.parse_args()
    models = build(gi.load_arrays(args.weights))
    for word in args.words:
        print(f"{word}: {' '.join(pronounce(models, word))}")


if __name__ == "__main__":
    main()
