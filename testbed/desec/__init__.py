"""A stand-in for deSEC: its REST API with its rules, limits and words, in front of whatever serves the zone in DNS.

The rules are those of https://desec.readthedocs.io and of https://github.com/desec-io/desec-stack: token policies,
`minimum_ttl`, atomic bulk writes, canonical records, and sliding windows for the number of requests.

`server` has the account that tests start. Each of these imports only from those before it: `exchange` (requests and
replies), `limits`, `record_sets` (what is stored), `tokens` (and their policies), `fields` (the rules for one field of
a write), `bulk_write`, `api` (what each path does), `http_handler`, `server`.
"""
