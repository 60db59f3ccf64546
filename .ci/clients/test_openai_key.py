"""What users of OpenAI's Python client do where the server wants a key."""

import openai

KEY = "a key for the tests alone"
SETTINGS = f'api_keys = ["{KEY}"]\n'


def test_key(address):
    """the client's api_key opens the server, and another is an AuthenticationError"""
    allowed = openai.OpenAI(base_url=f"{address}/v1", api_key=KEY, max_retries=0)
    assert len(allowed.embeddings.create(model="builtin", input="a boat").data) == 1
    foreign = openai.OpenAI(base_url=f"{address}/v1", api_key="another key of this length", max_retries=0)
    try:
        foreign.models.list()
    except openai.AuthenticationError as error:
        assert error.code == "invalid_api_key" and error.status_code == 401
    else:
        raise AssertionError("another key was taken")
