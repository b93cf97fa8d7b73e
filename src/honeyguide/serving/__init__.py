"""The wire: a request in, an Impressions row out.

Takes: HTTP.
Gives: answers, Impressions.
Never: knows how an answer is made.
"""
