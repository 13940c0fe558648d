"""The catalogue's route in FastAPI, as small as it can be: no database, no other route."""

from fastapi import FastAPI
from mangum import Mangum

app = FastAPI()


@app.get("/postings")
def postings():
    return {"items": [], "next_cursor": None}


handler = Mangum(app, lifespan="off")
