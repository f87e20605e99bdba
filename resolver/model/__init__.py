"""The frozen values that flow through the pipeline.

PortRequest → Snapshot → Holder → Classification → Plan → Outcome → PortReport → Report. Nothing
here reads the machine or changes it, and raw answers of the kernel or an engine never get this far.
Unknown facts are `None` next to a field that holds the reason.
"""

from resolver.model.holders import Classification as Classification
from resolver.model.holders import Collateral as Collateral
from resolver.model.holders import CollateralKind as CollateralKind
from resolver.model.holders import Command as Command
from resolver.model.holders import Confidence as Confidence
from resolver.model.holders import Degree as Degree
from resolver.model.holders import Holder as Holder
from resolver.model.holders import Kind as Kind
from resolver.model.holders import Manager as Manager
from resolver.model.holders import Ownership as Ownership
from resolver.model.holders import Respawn as Respawn
from resolver.model.holders import StopInquiry as StopInquiry
from resolver.model.holders import Whose as Whose
from resolver.model.machine import UNATTENDED as UNATTENDED
from resolver.model.machine import Account as Account
from resolver.model.machine import Container as Container
from resolver.model.machine import EngineState as EngineState
from resolver.model.machine import Pid as Pid
from resolver.model.machine import Process as Process
from resolver.model.machine import ProcessIdentity as ProcessIdentity
from resolver.model.machine import Redirect as Redirect
from resolver.model.machine import Scan as Scan
from resolver.model.machine import Snapshot as Snapshot
from resolver.model.machine import Socket as Socket
from resolver.model.plans import AdviseStep as AdviseStep
from resolver.model.plans import Diagnosis as Diagnosis
from resolver.model.plans import KillStep as KillStep
from resolver.model.plans import Plan as Plan
from resolver.model.plans import Planned as Planned
from resolver.model.plans import Policy as Policy
from resolver.model.plans import Step as Step
from resolver.model.plans import StopContainerStep as StopContainerStep
from resolver.model.plans import StopServiceStep as StopServiceStep
from resolver.model.plans import Verdict as Verdict
from resolver.model.ports import ANY_IPV4 as ANY_IPV4
from resolver.model.ports import ANY_IPV6 as ANY_IPV6
from resolver.model.ports import Binding as Binding
from resolver.model.ports import PortNumber as PortNumber
from resolver.model.ports import PortRequest as PortRequest
from resolver.model.ports import SocketState as SocketState
from resolver.model.ports import Transport as Transport
from resolver.model.ports import meets_any as meets_any
from resolver.model.ports import unmapped as unmapped
from resolver.model.reports import Completed as Completed
from resolver.model.reports import ExitStatus as ExitStatus
from resolver.model.reports import HolderReport as HolderReport
from resolver.model.reports import NearestFree as NearestFree
from resolver.model.reports import Outcome as Outcome
from resolver.model.reports import PortReport as PortReport
from resolver.model.reports import Proof as Proof
from resolver.model.reports import Report as Report
from resolver.model.reports import Result as Result
from resolver.model.reports import Successor as Successor
