"""An application behind gunicorn and uvicorn; what it was asked stands in ``requests.log`` of its folder."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, Header

app = FastAPI()


def _note(request_id):
    with Path("requests.log").open("a") as log:
        log.write(f"{request_id}\n")


@app.api_route("/work", methods=["GET", "POST"])
async def work(x_request_id: Annotated[str, Header()] = "-"):
    """Answer."""
    _note(x_request_id)
    return {"pid": os.getpid()}


@app.get("/die")
async def die(x_request_id: Annotated[str, Header()] = "-"):
    """End as the kernel's out-of-memory killer ends a worker, with the request in hand."""
    _note(x_request_id)
    # The acknowledgement of the request shall leave first: a kernel may delay it by 40 ms.
    await asyncio.sleep(0.2)
    os.kill(os.getpid(), signal.SIGKILL)
