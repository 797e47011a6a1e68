"""What the paper of NAG claims, tried in small: rows of pictures, what a judge sees in them, tables and figures."""
