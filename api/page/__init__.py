"""The page at `GET /`: see what is served, and try it in a browser, in Korean and English."""
