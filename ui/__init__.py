"""The search page: `mretrieve ui`, a Gradio app."""
