"""Speed, compared with the limit of the machine, with earlier versions, and with other servers."""
