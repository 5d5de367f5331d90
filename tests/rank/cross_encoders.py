"""Small cross-encoders with random weights, of the format of transformers."""

from tests.conftest import make_checkpoint


def make_cross_encoder(folder, *, outputs=1, seed=3):
    """A folder of transformers with a model that classifies pairs, of two layers."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    folder.mkdir(exist_ok=True)
    make_checkpoint(folder)
    torch.manual_seed(seed)
    config = BertConfig.from_pretrained(folder, num_labels=outputs, initializer_range=0.5)
    BertForSequenceClassification(config).save_pretrained(folder)
    for name in ("modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"):
        (folder / name).unlink()
    return folder
