"""Executives: the Shadow Board, whose members answer in text and speech, brief their subscriber, and ask for approvals.

service      settings, life, routes
talking      routes of questions, briefings and speech       listing   routes of who, what was done, what waits
replies      an answer as JSON, or event by event            models    what callers of questions send and receive
interaction  an answer in the making, which many may follow  events    what happens while it is made
answering    how one is made: model, pieces, speech, records measures  how long that takes, and how it ends
persona      what a model is told                            briefing  what a briefing rests on
chat         asking the model's server                       circuit   whether it is asked at all
listening    its answer as it comes, in time                 refusals  what callers are told where there is none
completion   what is said to it, and by it                   sse       server-sent events, read and written
pieces       a growing text, cut where it can be spoken      plain     Markdown taken off; inline: within a line
speech       pieces become samples                           recording speech on disk
roster       who there is                                    activity  what was done
approvals    what waits for consent                          proposal  what a model may propose
records      conversations, costs, answers under keys
"""
