"""Small translation models with random weights and the tokenizers of the real ones."""

import json

TEXT = [
    "The cat sat on the mat and slept.",
    "A dog runs after the cat in the garden.",
    "Der Hund lief durch den Wald und schlief.",
    "Le chat dort sur le tapis rouge.",
    "What is the name of the river? Nobody knows!",
    "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ 0123456789 .,;:!?",
] * 3


def sentencepiece_model(folder, name, size=90):
    """Train one; gives its pieces."""
    import io

    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT), model_writer=model, vocab_size=size, model_type="unigram", minloglevel=2
    )
    (folder / name).write_bytes(model.getvalue())
    loaded = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    return [loaded.id_to_piece(n) for n in range(loaded.get_piece_size())]


SIZES = {
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 128,
    "init_std": 0.5,
}


def save(model, folder, *, words):
    """Save a model that speaks in `words` only: random weights often say nothing at all."""
    others = set(range(model.config.vocab_size)) - set(words) - {model.config.eos_token_id}
    model.generation_config.suppress_tokens = sorted(others)
    model.generation_config.min_new_tokens = 4
    model.eval().save_pretrained(folder)


def save_m2m100(folder, tokenizer, targets):
    import torch
    from transformers import M2M100Config, M2M100ForConditionalGeneration

    torch.manual_seed(5)
    config = M2M100Config(
        **SIZES,
        vocab_size=len(tokenizer) + 108,  # of M2M100 the languages and made-up words are not counted
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=2,
    )
    targets = tokenizer.convert_tokens_to_ids(list(targets))
    save(M2M100ForConditionalGeneration(config), folder, words=[*range(4, 60), *targets])
    tokenizer.save_pretrained(folder)
    return folder


def make_m2m100(folder):
    """As facebook/m2m100_418M."""
    from transformers import M2M100Tokenizer

    pieces = sentencepiece_model(folder, "sentencepiece.bpe.model")
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    vocabulary = {piece: n for n, piece in enumerate([*special, *(p for p in pieces if p not in special)])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), "utf-8")
    tokenizer = M2M100Tokenizer(str(folder / "vocab.json"), str(folder / "sentencepiece.bpe.model"))
    return save_m2m100(folder, tokenizer, ("__de__", "__sw__"))


def make_nllb(folder):
    """As facebook/nllb-200-distilled-600M."""
    from transformers import NllbTokenizer

    letters = sorted({character for text in TEXT for character in text.replace(" ", "▁")})
    vocabulary = {
        piece: n for n, piece in enumerate(["<s>", "<pad>", "</s>", "<unk>", *letters, "th", "▁th"])
    }
    tokenizer = NllbTokenizer(vocab=vocabulary, merges=[("t", "h"), ("▁", "th")])
    return save_m2m100(folder, tokenizer, ("deu_Latn", "zho_Hans", "arb_Arab"))


def make_marian(folder, *, targets=(), **languages):
    """As Helsinki-NLP/opus-mt-en-de, or with tokens of several targets as opus-mt-en-ROMANCE."""
    import torch
    from transformers import MarianConfig, MarianMTModel, MarianTokenizer

    pieces = sentencepiece_model(folder, "source.spm")
    (folder / "target.spm").write_bytes((folder / "source.spm").read_bytes())
    special = ["</s>", "<unk>"]
    words = [*special, *(p for p in pieces if p not in (*special, "<s>")), *targets, "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({word: n for n, word in enumerate(words)}), "utf-8")
    tokenizer = MarianTokenizer(
        str(folder / "source.spm"), str(folder / "target.spm"), str(folder / "vocab.json"), **languages
    )
    pad = len(words) - 1
    torch.manual_seed(5)
    config = MarianConfig(
        **SIZES,
        vocab_size=len(words),
        pad_token_id=pad,
        eos_token_id=0,
        decoder_start_token_id=pad,
        forced_eos_token_id=0,
    )
    save(MarianMTModel(config), folder, words=range(10, 80))
    tokenizer.save_pretrained(folder)
    return folder
