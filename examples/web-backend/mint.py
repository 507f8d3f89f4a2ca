"""A short token for one user, as a backend in Python signs it (PyJWT).

    STREAMGATE_JWT_SECRET=SECRET python mint.py alice
"""

import os
import sys
import time

import jwt


def token(user: str) -> str:
    """A JWT of five minutes: who the user is, and what this user may do."""
    claims = {
        "iss": "web-backend",
        "aud": "streamgate",
        "sub": user,
        "exp": int(time.time()) + 300,
        "models": ["team-model"],
        "limits": {"requests_per_minute": 30},
    }
    return jwt.encode(claims, os.environ["STREAMGATE_JWT_SECRET"], algorithm="HS256")


if __name__ == "__main__":
    print(token(sys.argv[1]))
