"""What a fork server imports last: garbage collectors of its children leave all that it has imported alone.

They would look through it whenever they run, and in doing so write to pages that the children share as long as nobody
does.
"""

import gc

gc.freeze()
