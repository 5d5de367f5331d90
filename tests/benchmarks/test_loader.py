import loader


def test_the_corpus_is_read_back_and_measured(tmp_path):
    n_bytes = loader.write_corpus(tmp_path, 20_000)
    figures = loader.measure(tmp_path)
    assert figures["passages"] == 20_000
    assert n_bytes < figures["characters"]  # packed
    assert 0.7 < figures["characters"] / 20_000 / loader.MEAN_CHARACTERS < 1.3
    assert figures["seconds"] > 0 and figures["rss_bytes"] < 500e6
