"""What is special about speech.

serving    what becomes of a request: kept, shared, in parts, or simply fetched
reading    what is asked for, by whom, how soon
sentences  where a text may be divided
audio      how its parts are joined
scatter    a text that several endpoints speak at once
part       one part of it, and its attempts
coalesce   one answer for equal requests
keep       complete answers in memory
"""
