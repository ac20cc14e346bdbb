"""What an N-EVENT-REPORT that came to a pynetdicom server says, and who sent it."""


def told_by(event):
    """Return content, AE title of the caller, and its address."""
    caller = event.assoc.requestor
    return event.event_information, caller.ae_title.strip(), str(caller.address)
