"""mretrieve: find passages by meaning in any language."""
