"""Measures of runs against judgements, as trec_eval computes them."""
