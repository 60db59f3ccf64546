"""What a user of the Model Context Protocol's own Python client does: over HTTP against a server, over stdio with the command."""

import asyncio
import pathlib
import sys
import tempfile

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client


def binary():
    """The command that run.py was given."""
    return str(pathlib.Path(sys.argv[1]).resolve())


def text_of(result):
    return "".join(block.text for block in result.content if block.type == "text")


def field(thing, *names):
    """A field under either of its names: the client's releases spell them differently."""
    return next(getattr(thing, name) for name in names if hasattr(thing, name))


async def call(session, tool, **arguments):
    result = await session.call_tool(tool, arguments)
    assert not field(result, "is_error", "isError"), text_of(result)
    return field(result, "structured_content", "structuredContent")


async def refused(session, tool, **arguments):
    result = await session.call_tool(tool, arguments)
    assert field(result, "is_error", "isError"), result
    return text_of(result)


async def use(session, collection):
    greeted = await session.initialize()
    assert field(greeted, "server_info", "serverInfo").name == "quiverdb", greeted
    tools = {tool.name: tool for tool in (await session.list_tools()).tools}
    assert set(tools) == {"search", "get", "list_collections", "add", "delete", "create_collection"}, tools
    assert field(tools["search"].annotations, "read_only_hint", "readOnlyHint") is True

    made = await call(session, "create_collection", name=collection)
    assert made["created"] is True, made
    documents = [
        {"id": "crab", "title": "Ferris", "text": "A crab likes memory safety.", "metadata": {"year": 2015}},
        {"id": "a/b c", "text": "Bread rises overnight."},
        {"id": 7, "text": "Seven pears are ripe."},
    ]
    added = await call(session, "add", collection=collection, documents=documents)
    assert added["added"] == 3, added
    found = await call(session, "search", collection=collection, query="who likes safe memory?", limit=2)
    assert found["hits"][0]["document"] == "crab", found
    found = await call(session, "search", collection=collection, query="crab", filter="year > 2020", mode="text")
    assert found["hits"] == [], found
    whole = await call(session, "get", collection=collection, ids=["crab", "nobody"])
    assert whole["documents"][0]["metadata"] == {"year": 2015} and whole["missing"] == ["nobody"], whole
    assert collection in [entry["name"] for entry in (await call(session, "list_collections"))["collections"]]

    resources = (await session.list_resources()).resources
    mine = [resource for resource in resources if str(resource.uri).startswith(f"quiverdb://{collection}/")]
    assert len(mine) == 3, resources
    texts = set()
    for resource in mine:
        texts.add((await session.read_resource(resource.uri)).contents[0].text)
    assert texts == {document["text"] for document in documents}, texts
    templates = await session.list_resource_templates()
    assert len(field(templates, "resource_templates", "resourceTemplates")) == 1

    deleted = await call(session, "delete", collection=collection, ids=[7, "nobody"])
    assert deleted["deleted"] == 1, deleted
    assert "no collection" in await refused(session, "search", collection="nowhere", query="x")
    assert "the most is" in await refused(session, "search", collection=collection, query="x", limit=100_000)
    try:
        await session.call_tool("no_such_tool", {})
    except Exception as error:
        assert "no_such_tool" in str(error), error
    else:
        raise SystemExit("a tool that is not there was called")
    assert (await call(session, "search", collection=collection, query="bread"))["hits"], "the session lives on"


async def over_http(address):
    async with streamable_http_client(f"{address}/mcp") as streams:
        async with ClientSession(streams[0], streams[1]) as session:
            await use(session, "mcp-http")


async def over_stdio(binary):
    with tempfile.TemporaryDirectory() as folder:
        command = StdioServerParameters(command=binary, args=["--db", f"{folder}/notes.db", "mcp"])
        async with stdio_client(command) as (read, write), ClientSession(read, write) as session:
            await use(session, "mcp-stdio")
        reader = StdioServerParameters(command=binary, args=["--db", f"{folder}/notes.db", "mcp", "--read-only"])
        async with stdio_client(reader) as (read, write), ClientSession(read, write) as session:
            await session.initialize()
            assert {tool.name for tool in (await session.list_tools()).tools} == {"search", "get", "list_collections"}
            found = await call(session, "search", collection="mcp-stdio", query="crab")
            assert found["hits"][0]["document"] == "crab", "what was added is there in the next process"


def test_a_server_over_http(address):
    """Over HTTP: tools, resources, and errors that leave the session usable"""
    asyncio.run(over_http(address))


def test_the_command_over_stdio(_address):
    """Over stdin and stdout: the same, and a second process that only reads"""
    asyncio.run(over_stdio(binary()))
