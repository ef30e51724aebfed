"""The API gateway: one request of a subscriber to one external API, judged, counted and recorded.

service        what it is made of, and its life
proxy/         one request on its way, from its caller's token to its last row
usage/         what was used and spent, told to those who may ask
limit/         who may send now, in this process or in Redis
money/         what requests cost, and what subscribers may spend
credentials/   what services are called with, sealed and renewed
ledger/        rows that are durable, whatever PostgreSQL does; owners, journals, partitions
egress/        which URLs and addresses may be called, and how a request is sent there
"""
