"""A speech engine of OpenAI's form on one port: `python -m sovren_edge.local.engine --port N`.

request   what a caller may ask, and the refusals
audio     samples to bytes: pcm, wav, mp3
speaker   the model and its one thread
server    the port
"""
