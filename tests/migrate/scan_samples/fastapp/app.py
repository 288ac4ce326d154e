"""A web application: state of other people's objects, and dependencies."""

from __future__ import annotations

from typing import Annotated

import chromadb
import streamlit as st
from fastapi import Depends, FastAPI, Request

app = FastAPI()


def get_words():
    """A dependency."""
    return chromadb.HttpClient().get_collection("words")  # expect: direct-client


app.state.words = get_words()


@app.post("/one")
def one(request: Request):
    """Through the application's state."""
    request.app.state.words.add(ids=["a"])  # expect: direct-write?


@app.post("/two")
def two(words=Depends(get_words)):  # noqa: B008
    """Through a default."""
    words.upsert(ids=["a"])  # expect: direct-write


@app.post("/three")
def three(words: Annotated[chromadb.Collection, Depends(get_words)]):
    """Through an annotation."""
    words.delete(ids=["a"])  # expect: direct-write


def yielded():
    """A dependency that is closed afterwards."""
    client = chromadb.PersistentClient("x")  # expect: direct-client
    yield client.get_collection("words")


@app.post("/four")
def four(words=Depends(yielded)):  # noqa: B008
    """Through what it yields."""
    words.add(ids=["a"])  # expect: direct-write


st.session_state["words"] = get_words()
st.session_state.words.update(ids=["a"])  # expect: direct-write?
